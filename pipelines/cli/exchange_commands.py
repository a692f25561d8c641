"""Commands that bring features to other tools, and from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import JsonOption, StoreArgument
from .output import print_json, size


def export(
    store: StoreArgument,
    out: Annotated[Path, typer.Argument(help="What to write; it must not exist.")],
    format: Annotated[  # noqa: A002 - the name of the option
        str, typer.Option(help="parquet or arrow (a file), or datasets (a folder for load_from_disk).")
    ] = "parquet",
    column: Annotated[list[str] | None, typer.Option(help="A column of features; repeatable. By default all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the rows of a store for other tools: ids, labels, and a list for each column of features."""
    from ...extract.store.feature_store import FeatureStore

    opened = FeatureStore.open(store)
    opened.export(out, format, column)
    names = column or [own.name for own in opened.columns]
    written = sum(file.stat().st_size for file in (out.iterdir() if out.is_dir() else [out]))
    if as_json:
        print_json({"out": str(out), "format": format, "rows": opened.n_rows, "columns": names, "bytes": written})
    else:
        typer.echo(f"wrote {out}: {opened.n_rows} rows with {', '.join(names)}, {size(written)}")


def import_(
    out: Annotated[Path, typer.Argument(metavar="OUT_STORE", help="The store to make.")],
    source: Annotated[
        Path, typer.Argument(help="A .npy, .txt or .mat; or a folder that clip-retrieval or thingsvision wrote.")
    ],
    ids: Annotated[
        Path | None, typer.Option(help="A .txt with an id in each line, a .npy, or a table with a column id or path.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A table with a column id or path; each other column is one of labels.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a store of features that another tool computed; heads can be trained on it."""
    from ...extract.store.feature_store import FeatureStore

    store = FeatureStore.import_features(out, source, ids, labels)
    counts = store.index.counts()
    facts = {
        "store": str(out),
        "items": sum(counts.values()),
        "ok": counts.get("ok", 0),
        "duplicate": counts.get("duplicate", 0),
        "fingerprint": store.fingerprint,
        "columns": [column.to_json() for column in store.columns],
    }
    if as_json:
        print_json(facts)
        return
    columns = ", ".join(f"{column.name} ({column.width} {column.dtype})" for column in store.columns)
    typer.echo(f"{out}: {facts['items']} items ({facts['ok']} ok, {facts['duplicate']} duplicate) with {columns}")
