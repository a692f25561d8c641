"""``topwork report``: one HTML file about a bundle, and how it predicts labelled items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from .arguments import open_data
from .options import (
    SOURCES_HELP,
    BundleArgument,
    ExecutionOptions,
    JsonOption,
    SplitOption,
    TableOptions,
    TrustOption,
    parse_split,
)
from .output import echo, print_json

if TYPE_CHECKING:
    from ...extract.sources.table import Table


def report(
    bundle: BundleArgument,
    execution: ExecutionOptions,
    table: TableOptions,
    out: Annotated[Path, typer.Option(help="The .html file to write; one that is there is replaced.")],
    source: Annotated[
        str | None, typer.Argument(help=f"Labelled items: {SOURCES_HELP}; or a feature store.", metavar="[SOURCE]")
    ] = None,
    items: Annotated[
        str | None, typer.Option(help="The source of a store's items, for thumbnails and the beginnings of texts.")
    ] = None,
    split: SplitOption = None,
    audit: Annotated[
        bool, typer.Option("--audit/--no-audit", help="Search a store for label errors and duplicates.")
    ] = True,
    curves: Annotated[
        bool, typer.Option("--curves/--no-curves", help="Compute from a store how labels and layers matter.")
    ] = True,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one HTML page, which needs nothing but its file, about a bundle and how it predicts labelled items."""
    from ..report.reporting import write_report

    data, content = choose_data(source, items, table)
    written = write_report(
        bundle,
        out,
        data,
        items=content,
        split=parse_split(split),
        audit=audit,
        curves=curves,
        trusted=trust or (),
        parameters=execution.to_parameters(),
    )
    if as_json:
        print_json(written)
    else:
        print_written(written)


def choose_data(source: str | None, items: str | None, table: TableOptions) -> tuple[Any, str | Table | None]:
    """Return the labelled items, and the source of a store's items; names of columns belong to the table among them."""
    from ...extract.store.description import is_store

    if source is None:
        if items is not None:
            raise InputError(
                f"--items {items} belongs to a store, which is missing: expected `topwork report BUNDLE STORE`"
            )
        return None, None
    if items is None:
        return open_data(source, table), None
    if not is_store(source):
        raise InputError(
            f"--items {items}: {source} is no feature store; its items are read from it, leave --items out"
        )
    return open_data(source, TableOptions()), table.to_source(items)


def print_written(written: dict[str, Any]) -> None:
    """Print what was written, and what the page does not tell."""
    for text in written["missing"]:
        echo(text)
    counts = [f"{written['items']} items"] if written["items"] else []
    counts += [f"{written[name]} {name}" for name in ("failed", "thumbnails", "snippets") if written[name]]
    shown = f": {', '.join(counts)}" if counts else ""
    echo(f"wrote {written['out']} ({written['bytes'] / 1000:,.0f} kB){shown}")
