"""``topwork store …``: inspect a feature store, maintain it, and exchange features with other tools."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import StoreDamagedError
from .arguments import open_store
from .options import (
    ExcelSafeOption,
    ExecutionOptions,
    JsonOption,
    LabelSeparatorOption,
    SourceArgument,
    StoreArgument,
    TableOptions,
)
from .output import (
    confirm,
    echo,
    format_size,
    is_at_terminal,
    print_failures,
    print_json,
    print_ledger,
    print_outcome,
    print_result,
    print_table,
    require_success,
)

if TYPE_CHECKING:
    from ...extract.graphs.fidelity import Fidelity
    from ...extract.store.feature_store import FeatureStore


def info(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Show what a store holds."""
    from ..show import summarize_store

    opened = open_store(store)
    fidelity: tuple[Fidelity, ...] = () if opened.is_foreign else opened.graph.certificate.fidelity
    facts = summarize_store(opened)
    if as_json:
        print_json(facts | {"fidelity": [asdict(entry) for entry in fidelity]})
        return
    print_store(opened, facts)
    for entry in fidelity:
        echo(entry)


def print_store(store: FeatureStore, facts: dict[str, Any]) -> None:
    """Print where the features of a store come from, its counts of items, and a table of its columns."""
    from ..show import ITEM_STATUSES

    counts = [f"{facts[status]} {status}" for status in ITEM_STATUSES if facts[status] or status != "pending"]
    origin = f"backbone {facts['backbone']}" if facts["backbone"] else "foreign features"
    echo(f"{store.place}: {facts['items']} items ({', '.join(counts)})")
    echo(f"{origin}, fingerprint {store.fingerprint[:16]}")
    rows = [[column.name, column.pool, column.precision, str(column.width)] for column in store.columns]
    print_table(["column", "pool", "precision", "features"], rows)


def verify(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Check every file of a store against its SHA-256."""
    damaged = open_store(store).verify()
    if as_json:
        print_json({"damaged": damaged})
    if damaged:
        raise StoreDamagedError(
            f"{len(damaged)} files of {store} are missing or damaged: {', '.join(damaged)}. "
            "Restore them from a backup, or run `topwork store repair` to mark their rows for recomputation."
        )
    if not as_json:
        echo("all files match their SHA-256")


def repair(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Mark damaged rows for recomputation; all other rows are kept."""
    repaired = open_store(store).repair()
    if as_json:
        print_json({"pending": list(repaired.pending), "lost": list(repaired.lost)})
        return
    echo(f"{len(repaired.pending)} items are marked for recomputation: run `topwork extract` with their source")
    for name in repaired.lost:
        echo(f"  lost: {name}: restore it from a backup")


def compact(
    store: StoreArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be merged, and write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Merge the parts left by an interrupted job into one file per column."""
    opened = open_store(store)
    parts = len(opened.state.parts)
    facts = {"parts": parts, "rows": opened.n_rows}
    if dry_run:
        print_result(facts, f"would merge {parts} parts into one; {opened.n_rows} rows", as_json=as_json)
        return
    if is_at_terminal(as_json=as_json) and not confirm(f"Merge {parts} parts of {opened.place} into one?"):
        return
    opened.compact()
    print_result(facts, f"merged {parts} parts into one; {opened.n_rows} rows", as_json=as_json)


def merge(
    store: StoreArgument,
    others: Annotated[
        list[str] | None,
        typer.Argument(help="Other stores of the same backbone; by default the shards of the store itself."),
    ] = None,
    prefer: Annotated[
        str | None,
        typer.Option(help="Whose features to keep for items with other content: this or other; an error by default."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add what the jobs of an array computed (--shard), or the items of other stores."""
    from ..show import summarize_store

    opened = open_store(store)
    merged = opened.merge(*map(open_store, others or []), prefer=prefer)  # type: ignore[arg-type]
    summary = summarize_store(opened)
    facts = {name: summary[name] for name in ("items", "ok", "failed", "duplicate", "pending")} | asdict(merged)
    if as_json:
        print_json(facts)
        return
    echo(f"{merged.added} items added, {merged.replaced} replaced, {merged.kept} kept, {merged.labelled} labels set")
    for state in ("merged", "unfinished", "missing"):
        if facts[state]:
            echo(f"{state}: {', '.join(facts[state])}")
    counts = ", ".join(f"{facts[status]} {status}" for status in ("ok", "failed", "duplicate"))
    echo(f"{opened.place}: {facts['items']} items ({counts})")


def retry(
    store: StoreArgument,
    source: SourceArgument,
    execution: ExecutionOptions,
    table: TableOptions,
    as_json: JsonOption = False,
) -> None:
    """Retry the failed items of a source, and compute what the store does not have yet."""
    from ...extract.extractor.extraction import Extraction
    from ...extract.jobs.job import extract_features

    opened = open_store(store)
    extraction = Extraction(opened.graph, **execution.to_parameters())
    ledger = extract_features(
        table.to_source(source),
        opened,
        retry=True,
        config=extraction.run_config,
    )
    print_outcome(ledger, print_ledger, as_json=as_json)
    require_success(ledger.failed, ledger.items)


def label(
    store: StoreArgument,
    labels: Annotated[
        Path, typer.Argument(help="A .csv, .tsv, .jsonl or .parquet table with a column id (or path), and labels.")
    ],
    label_separator: LabelSeparatorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set labels from a table: every column but the id is a column of labels, such as label or split."""
    opened = open_store(store)
    count = opened.set_labels(labels, separator=label_separator)
    facts = {"items": count, "labels": opened.label_names}
    text = f"{count} items have new labels; the store has {', '.join(opened.label_names)}"
    print_result(facts, text, as_json=as_json)


def failures(
    store: StoreArgument,
    out: Annotated[Path | None, typer.Option(help="A .csv or .jsonl file to write all of them to.")] = None,
    excel_safe: ExcelSafeOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the failed items, with their reasons."""
    from ..estimators.result_files import check_suffix, require_file_place, write_rows

    if out is not None:
        check_suffix(out)
        require_file_place(out)
    failed = open_store(store).failures()
    rows = [{"id": item_id, "reason": reason} for item_id, reason in failed]
    if out is not None:
        write_rows(out, rows, ("id", "reason"), excel_safe=excel_safe)
    if as_json:
        print_json({"failures": rows})
        return
    written = "" if out is None else f"; wrote {out}"
    echo(f"{len(failed)} failed{written}")
    print_failures(failed)


def export(
    store: StoreArgument,
    out: Annotated[Path, typer.Argument(help="File or folder to write; it must not exist.")],
    format: Annotated[  # noqa: A002 - the name of the option
        str, typer.Option(help="parquet or arrow (a file), or datasets (a folder for load_from_disk).")
    ] = "parquet",
    column: Annotated[list[str] | None, typer.Option(help="A column of features; repeatable; all by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the rows of a store for other tools: ids, labels, and a list per column of features."""
    opened = open_store(store)
    opened.export(out, format, column)
    columns = column or [own.name for own in opened.columns]
    files = list(out.iterdir()) if out.is_dir() else [out]
    size = sum(file.stat().st_size for file in files)
    facts = {"out": str(out), "format": format, "rows": opened.n_rows, "columns": columns, "bytes": size}
    text = f"wrote {out}: {opened.n_rows} rows with {', '.join(columns)}, {format_size(size)}"
    print_result(facts, text, as_json=as_json)


def import_(
    out: Annotated[Path, typer.Argument(metavar="OUT_STORE", help="The store to create.")],
    source: Annotated[
        Path,
        typer.Argument(
            help="A .npy, .txt or .mat file; what `topwork store export` writes; or a folder of clip-retrieval or "
            "thingsvision."
        ),
    ],
    ids: Annotated[
        Path | None, typer.Option(help="A .txt with one id per line, a .npy, or a table with a column id or path.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A table of labels, with a column id or path, or else in the order of the rows.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a store of features that another tool computed; heads can be trained on it."""
    from ...extract.store.feature_store import FeatureStore
    from ..show import summarize_store

    store = FeatureStore.import_features(out, source, ids=ids, labels=labels)
    summary = summarize_store(store)
    facts = {name: summary[name] for name in ("items", "ok", "duplicate", "fingerprint", "columns")}
    columns = ", ".join(f"{column.name} ({column.width} {column.dtype})" for column in store.columns)
    text = f"{out}: {facts['items']} items ({facts['ok']} ok, {facts['duplicate']} duplicate) with {columns}"
    print_result({"store": str(out), **facts}, text, as_json=as_json)
