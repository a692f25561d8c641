"""Commands that keep a feature store in order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import StoreDamagedError
from .options import JsonOption, RunFlags, SourceArgument, StoreArgument, TableFlags, grouped
from .output import print_failures, print_json, print_ledger, progress_bar


def verify(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Check every file of a store against its SHA-256."""
    from ...extract.store.feature_store import FeatureStore

    damaged = FeatureStore.open(store).verify()
    if as_json:
        print_json({"damaged": damaged})
    if damaged:
        raise StoreDamagedError(
            f"{len(damaged)} files of {store} are missing or damaged: {', '.join(damaged)}. Restore them from a copy, "
            "or let `topwork store repair` put their rows back to be computed again."
        )
    if not as_json:
        typer.echo("every file is as it was written")


def repair(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Put damaged rows back to be computed again; all others stay."""
    from ...extract.store.feature_store import FeatureStore

    done = FeatureStore.open(store).repair()
    if as_json:
        print_json({"pending": list(done.pending), "lost": list(done.lost)})
        return
    typer.echo(f"{len(done.pending)} items are to be computed again: run `topwork extract` with their source")
    for name in done.lost:
        typer.echo(f"  lost: {name}: restore it from a copy")


def compact(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Merge the parts that an interrupted job left into one file for each column."""
    from ...extract.store.feature_store import FeatureStore

    opened = FeatureStore.open(store)
    before = len(opened.state.parts)
    opened.compact()
    if as_json:
        print_json({"parts": before, "rows": opened.n_rows})
    else:
        typer.echo(f"{before} parts are one; {opened.n_rows} rows")


@grouped
def retry(
    store: StoreArgument, source: SourceArgument, run: RunFlags, table: TableFlags, as_json: JsonOption = False
) -> None:
    """Compute the items of a source again that failed, and what the store does not have yet."""
    from ...extract.extractor.extraction import Extraction
    from ...extract.jobs.job import extract_features
    from ...extract.store.feature_store import FeatureStore

    opened = FeatureStore.open(store)
    wanted = Extraction(opened.graph, **run.parameters())
    with progress_bar("retry"):
        ledger = extract_features(
            table.source(source),
            opened,
            retry=True,
            on_error=wanted.on_error,
            provider=wanted.provider,
            options=wanted.run_options(),
            max_pixels=wanted.max_pixels,
        )
    if as_json:
        print_json(ledger.to_json())
    else:
        print_ledger(ledger)


def label(
    store: StoreArgument,
    labels: Annotated[
        Path, typer.Argument(help="A .csv, .tsv, .jsonl or .parquet table with a column id (or path), and labels.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Set labels from a table: each column but the id's is one of labels, such as label or split."""
    from ...extract.store.feature_store import FeatureStore

    opened = FeatureStore.open(store)
    named = opened.set_labels(labels)
    if as_json:
        print_json({"items": named, "labels": opened.label_names})
    else:
        typer.echo(f"{named} items have new labels; the store has {', '.join(opened.label_names)}")


def failures(
    store: StoreArgument,
    out: Annotated[Path | None, typer.Option(help="A .csv or .jsonl file to write all of them to.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the items that failed, with their reasons."""
    from ...extract.store.feature_store import FeatureStore
    from ..estimators.row_file import write_rows

    found = FeatureStore.open(store).failures()
    rows = [{"id": item_id, "reason": reason} for item_id, reason in found]
    if out is not None:
        write_rows(out, rows, ("id", "reason"))
    if as_json:
        print_json({"failures": rows})
        return
    typer.echo(f"{len(found)} failed" + (f"; wrote {out}" if out else ""))
    print_failures(found)
