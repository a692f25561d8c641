"""Commands that fill a feature store, and look into one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InputError
from .options import (
    BackboneOption,
    BackboneOptions,
    CutOptions,
    JsonOption,
    RunFlags,
    SourceArgument,
    StoreArgument,
    StoreFlags,
    TableFlags,
    extractor,
    grouped,
)
from .output import print_json, print_ledger, print_plan, print_table, progress_bar

if TYPE_CHECKING:
    from ...extract.engine.ledger import Ledger
    from ...extract.extractor.extraction import Extraction
    from ...extract.graphs.fidelity import Fidelity
    from ...extract.sources.opening import Source
    from ...extract.sources.table import Table
    from ...extract.store.feature_store import FeatureStore


@grouped
def extract(
    source: SourceArgument,
    store: Annotated[Path, typer.Option(help="The store; made if it is not there.")],
    model: BackboneOptions,
    cut: CutOptions,
    run: RunFlags,
    table: TableFlags,
    keep: StoreFlags,
    backbone: BackboneOption = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Time a few items, forecast time, disk and memory, and write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compute the features of a source's items that a store does not have yet."""
    from ...extract.engine.error_policy import ErrorPolicy
    from ...extract.runtime.session import require_provider
    from ...extract.store.description import is_store, require_place
    from ...extract.store.feature_store import FeatureStore

    wanted, data = extractor(backbone, model, cut, run), table.source(source)
    ErrorPolicy.parse(run.on_error)
    require_provider(run.provider)
    existing = FeatureStore.open(store) if is_store(store) else None
    if keep.add_columns:
        _add_columns(existing, store, wanted, data, as_json)
    if existing:
        existing.admit(wanted)  # its precision wins
    else:
        require_place(store)
        wanted.fit(data)
    opened = wanted.open(data)  # a source that is not there makes no store
    if plan:
        _plan(opened, existing, wanted, as_json)
        return
    filled = existing or FeatureStore.open_or_create(store, wanted, dtype=keep.dtype)
    ledger = _extract(opened, filled, wanted, keep)
    if as_json:
        print_json(ledger.to_json())
    else:
        print_ledger(ledger)


def _add_columns(store: FeatureStore | None, path: Path, wanted: Extraction, data: str | Table, as_json: bool) -> None:
    if store is None:
        raise InputError(f"--add-columns: there is no store at {path} to add columns to")
    with progress_bar("add columns"):
        ledger = store.add_columns(wanted, data, provider=wanted.provider)
    if not as_json:
        names = ", ".join(column.name for column in store.columns)
        typer.echo(f"computed the new columns of {ledger.computed} items; the store has {names}")


def _extract(source: Source, store: FeatureStore, wanted: Extraction, keep: StoreFlags) -> Ledger:
    from ...extract.jobs.job import extract_features as extract_job

    with progress_bar("extract"):
        return extract_job(
            source,
            store,
            views=keep.views,
            retry=keep.retry,
            prune=keep.prune,
            on_error=wanted.on_error,
            provider=wanted.provider,
            options=wanted.run_options(),
            max_pixels=wanted.max_pixels,
        )


def _plan(source: Source, store: FeatureStore | None, wanted: Extraction, as_json: bool) -> None:
    from ...extract.jobs.plan import plan as plan_job

    with progress_bar("plan"):
        found = plan_job(
            source,
            store.graph if store else wanted.graph,
            store,
            provider=wanted.provider,
            options=wanted.run_options(),
            max_pixels=wanted.max_pixels,
        )
    if as_json:
        print_json(found.to_json())
    else:
        print_plan(found)


def info(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Show what a store holds."""
    from ...extract.store.feature_store import FeatureStore

    opened = FeatureStore.open(store)
    counts = {status: opened.index.counts().get(status, 0) for status in ("ok", "failed", "duplicate", "pending")}
    backbone, fidelity = (None, ()) if opened.is_foreign else _computed_by(opened)
    facts = {
        "items": sum(counts.values()),
        **counts,
        "items_per_second": None,
        "fingerprint": opened.fingerprint,
        "backbone": backbone,
        "columns": [column.to_json() for column in opened.columns],
        "fidelity": [asdict(entry) for entry in fidelity],
    }
    if as_json:
        print_json(facts)
        return
    told = [f"{count} {status}" for status, count in counts.items() if count or status != "pending"]
    typer.echo(f"{store}: {facts['items']} items ({', '.join(told)})")
    typer.echo(f"{f'backbone {backbone}' if backbone else 'foreign features'}, fingerprint {opened.fingerprint[:16]}")
    rows = [[column.name, column.pool, column.precision, str(column.width)] for column in opened.columns]
    print_table(["column", "pool", "precision", "features"], rows)
    for entry in fidelity:
        typer.echo(str(entry))


def _computed_by(store: FeatureStore) -> tuple[str, tuple[Fidelity, ...]]:
    """Return the name of a store's backbone, and how near its features are to those in float32."""
    return store.identity["architecture"], store.graph.certificate.fidelity
