"""``topwork extract``: compute the features of a source's items into a store, or forecast what that will take."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import IdentityError, InputError, LayerError
from .arguments import make_extraction, open_store
from .options import (
    RUN_PANEL,
    BackboneOption,
    BackboneOptions,
    CutOptions,
    EngineOptions,
    ExecutionOptions,
    FidelityOption,
    JsonOption,
    SourcesArgument,
    SplitOption,
    StoreOptions,
    TableOptions,
    parse_split,
)
from .output import (
    confirm,
    echo,
    is_at_terminal,
    print_ledger,
    print_outcome,
    print_plan,
    print_result,
    require_success,
)

if TYPE_CHECKING:
    from ...extract.engine.ledger import Ledger
    from ...extract.extractor.extraction import Extraction
    from ...extract.jobs.plan import Plan
    from ...extract.jobs.ray_engine import RayEngine
    from ...extract.sources.item import Source
    from ...extract.sources.several import SourceNames
    from ...extract.sources.table import Table
    from ...extract.store.feature_store import FeatureStore


def extract(
    source: SourcesArgument,
    store: Annotated[str, typer.Option(help="The store, a folder or URL; created if it does not exist.")],
    model: BackboneOptions,
    cut: CutOptions,
    execution: ExecutionOptions,
    table: TableOptions,
    keep: StoreOptions,
    machines: EngineOptions,
    backbone: BackboneOption = None,
    split: SplitOption = None,
    fidelity: FidelityOption = "features",
    shard: Annotated[
        str | None,
        typer.Option(
            help="Compute one of several shares of SOURCE, from 0/64 to 63/64, beside other processes; "
            "`topwork store merge` joins them.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Time a few items, forecast time, disk and memory, and write nothing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --prune: say how many items would be removed, and write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compute the features of a source's items that a store does not have yet."""
    from ...extract.runtime.providers import find_providers
    from ...extract.sources.selected import ShareSource, select_source
    from ...extract.sources.views import require_views
    from ...extract.store.description import is_store, require_place
    from ...extract.store.feature_store import FeatureStore
    from ...extract.store.shards import Shard

    # Validate.
    if dry_run and not (keep.prune and is_store(store)):
        raise InputError("--dry-run: expected an existing store, and --prune; --plan forecasts what is computed")
    if shard is not None and (keep.prune or keep.add_columns):
        raise InputError("--shard: a shard does not know the others; merge them, then use --prune or --add-columns")
    share = None if shard is None else Shard.parse(shard)
    engine = machines.to_engine()
    if engine is not None and (shard or keep.add_columns):
        raise InputError("--engine ray: expected neither --shard nor --add-columns")
    if keep.views is not None:
        require_views(keep.views)
    if fidelity != "features" and (plan or shard is not None or is_store(store)):
        raise InputError(f"--fidelity {fidelity}: expected a new store, and neither --plan nor --shard")
    existing = open_store(store) if is_store(store) else None
    known = None if keep.add_columns else existing
    extraction = make_extraction(backbone, model, cut=cut, execution=execution, store=known)
    data = table.to_sources(source)
    find_providers(extraction.run_config.provider, "fp32")

    # Settle the graph and its precision; nothing is created before the source is known to exist.
    if keep.add_columns:
        add_columns(existing, store, extraction, data, as_json=as_json)
    if existing:
        admit_extraction(existing, extraction, cut)
    else:
        require_place(store)
        settle_precision(extraction, data, fidelity, parse_split(split))
    opened = select_source(extraction.open(data), parse_split(split))

    # Run.
    if plan:
        if share is not None:
            opened = ShareSource(opened, share.number, share.count)
        forecast = forecast_extraction(opened, existing, extraction, keep)
        print_outcome(forecast, print_plan, as_json=as_json)
        return
    if existing and keep.prune and not may_prune(existing, opened, is_dry=dry_run, as_json=as_json):
        return
    target = existing or FeatureStore.open_or_create(store, extraction, dtype=keep.dtype)
    ledger = fill_store(opened, target, extraction, keep, shard=shard, engine=engine)
    print_outcome(ledger, print_ledger, as_json=as_json)
    require_success(ledger.failed, ledger.items)


def admit_extraction(store: FeatureStore, extraction: Extraction, cut: CutOptions) -> None:
    """Check that features belong into a store, whose precision takes precedence.

    A backbone that lacks the layers of the store, where none were asked for, is another backbone.
    """
    try:
        store.admit(extraction)
    except LayerError as error:
        if cut.layer:
            raise
        architecture = store.identity["architecture"]
        raise IdentityError(
            f"the backbone is not that of {store.place}, {architecture}: {error} Use another store, or leave out "
            "--backbone."
        ) from error


def settle_precision(
    extraction: Extraction, data: str | Table | SourceNames, fidelity: str, splits: list[str] | None
) -> None:
    """Choose the precision of a new store by the errors of features, or by the score of a head on the source's labels.

    Labels are classes. Only what trains heads needs scikit-learn, which takes long to import.
    """
    if fidelity == "features":
        extraction.fit(data)
        return
    from ..estimators.transfer_classifier import TransferClassifier

    parameters = {name: getattr(extraction, name) for name in signature(type(extraction)).parameters}
    scores = TransferClassifier(**parameters, fidelity=fidelity).choose_precision(data, splits)
    if scores is None:
        extraction.fit(data)
    else:
        extraction.settle_on(scores.chosen, scores.compared)


def may_prune(store: FeatureStore, source: Source, *, is_dry: bool, as_json: bool) -> bool:
    """Return whether items that are not in a source may be removed; a user at a terminal is asked."""
    in_source = {item.id for item in source}
    known = store.index.settle().table
    groups = zip(known["id"].to_pylist(), known["group"].to_pylist(), strict=True)
    n_absent = sum((group or item_id) not in in_source for item_id, group in groups)
    if is_dry:
        text = f"would remove {n_absent} of {len(known)} items of {store.place}, which are not in this source"
        print_result({"pruned": n_absent}, text, as_json=as_json)
        return False
    is_asked = n_absent > 0 and is_at_terminal(as_json=as_json)
    return not is_asked or confirm(f"Remove {n_absent} of {len(known)} items of {store.place}?")


def add_columns(
    store: FeatureStore | None, path: str, extraction: Extraction, data: str | Table | SourceNames, *, as_json: bool
) -> None:
    """Compute the columns that an existing store lacks, for the items that it has."""
    if store is None:
        raise InputError(f"--add-columns: there is no store at {path}")
    ledger = store.add_columns(extraction, data, config=extraction.run_config)
    if not as_json:
        names = ", ".join(column.name for column in store.columns)
        echo(f"computed the new columns of {ledger.computed} items; the store has {names}")


def fill_store(
    source: Source,
    store: FeatureStore,
    extraction: Extraction,
    keep: StoreOptions,
    *,
    shard: str | None,
    engine: RayEngine | None,
) -> Ledger:
    """Run the job."""
    from ...extract.jobs.job import extract_features

    return extract_features(
        source,
        store,
        views=keep.views,
        retry=keep.retry,
        prune=keep.prune,
        rehash=keep.rehash,
        recompute=keep.recompute,
        config=extraction.run_config,
        shard=shard,
        engine=engine,
    )


def forecast_extraction(source: Source, store: FeatureStore | None, extraction: Extraction, keep: StoreOptions) -> Plan:
    """Time a few items; nothing is written."""
    from ...extract.jobs.plan import plan

    return plan(
        source,
        store.graph if store else extraction.graph,
        store,
        config=extraction.run_config,
        views=keep.views,
        dtype=keep.dtype,
    )
