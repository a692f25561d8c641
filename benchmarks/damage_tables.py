"""Damaged or hostile tables: cells, headers, encodings, types, sizes and paths; reproducible by their seed."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from damage import damaged, images
from pyarrow import parquet

IMAGE = "a.png"
"""An image beside the table."""
COLUMNS = ("path", "text", "label", "id", "split", "weight")
ROWS = 8
FOOTER_BYTES = 600
"""About the size of the description at the end of a Parquet file."""
TEXTS = ("", " ", "\0", "a\0b", "\ufeff", "\u202e", "\ud800", "nan", "None", "-1", "1e999", "\r", "a\nb", '"', '"a',
         "a,b", "=1+1", "\x1b[2J", "é" * 300, "x" * 200_000, "[1, 2]", '{"a": 1}')  # fmt: skip
PATHS = (IMAGE, "missing.png", ".", "..", "/", "/dev/null", "/proc/self/mem", "C:\\x.png", "file:///missing.png",
         "memory://missing.png", "local:///missing", "nothing://x", "simplecache::file:///missing", "://", "a" * 5000,
         "d/" * 3000, "[", "*", "~", "$HOME", "\0", "x\ud800.png")  # fmt: skip
VALUES = (None, True, 0, -1, 2**63 - 1, 2**70, 1.5, float("nan"), float("inf"), b"\xff\xfe", [], ["a", 1], [[1]], {},
          {"bytes": None, "path": None}, {"a": {"b": []}})  # fmt: skip
LINES = ("[" * 100_000, "1" * 5000, "null", "{}", '{"path": NaN}', "x")
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "utf-7")
TYPED = ([1, None] * 4, [1.5, float("nan")] * 4, [b"\xff"] * 8, [None] * 8, [["a"], None] * 4, [{"a": 1}] * 8,
         [datetime(1, 1, 1)] * 8, [Decimal("1e-30")] * 8, [True, False] * 4, ["x"] * 8)  # fmt: skip

Rows = list[dict[str, Any]]


def make_table(chance: random.Random) -> dict[str, bytes]:
    """Return a table and an image beside it."""
    ending = chance.choice(list(WRITERS))
    rows = make_rows()
    is_hostile = chance.random() < 0.7
    if is_hostile:
        for _ in range(chance.choice((1, 2, 5))):
            chance.choice(CHANGES)(chance, rows)
    content = WRITERS[ending](chance, rows)
    if not is_hostile or chance.random() < 0.3:
        place = chance.choice((0, max(0, len(content) - FOOTER_BYTES)))
        content = content[:place] + damaged(chance, content[place:])
    return {f"case{ending}": content, IMAGE: images()["plain.png"]}


def make_rows() -> Rows:
    """Return rows without damage."""
    rows = []
    for number in range(ROWS):
        cells = (IMAGE, f"text {number}", "ab"[number % 2], f"id{number}", "train", "1.0")
        rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return rows


def change_cell(chance: random.Random, rows: Rows) -> None:
    column = chance.choice(COLUMNS)
    rows[chance.randrange(len(rows))][column] = chance.choice(PATHS if column == "path" else TEXTS)


def change_type(chance: random.Random, rows: Rows) -> None:
    rows[chance.randrange(len(rows))][chance.choice(COLUMNS)] = chance.choice(VALUES)


def change_header(chance: random.Random, rows: Rows) -> None:
    old = chance.choice(COLUMNS)
    new = chance.choice((*TEXTS, *COLUMNS, old.upper()))
    for row in rows:
        row[new] = row.pop(old, None)


def drop_cell(chance: random.Random, rows: Rows) -> None:
    rows[chance.randrange(len(rows))].pop(chance.choice(COLUMNS), None)


def change_size(chance: random.Random, rows: Rows) -> None:
    if len(rows[0]) > len(COLUMNS) + 1:
        return
    size = chance.choice((0, 1, 5000))
    rows[:] = [dict(row) for row in (rows * (size // len(rows) + 1))[:size] or rows[:1]]
    if chance.random() < 0.3:
        rows[0].update({f"column {number}": "x" for number in range(chance.choice((50, 3000)))})


CHANGES: tuple[Callable[[random.Random, Rows], None], ...] = (
    change_cell, change_cell, change_cell, change_type, change_header, drop_cell, change_size,
)  # fmt: skip


def write_csv(chance: random.Random, rows: Rows, delimiter: str = ",") -> bytes:
    stream = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    quoting = chance.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    writer = csv.writer(
        stream, delimiter=delimiter, quoting=quoting, lineterminator=chance.choice(("\n", "\r\n", "\r"))
    )
    writer.writerow(names)
    for row in rows:
        writer.writerow([row.get(name, "") for name in names][: chance.choice((None, None, None, None, None, 3))])
    return encode(chance, stream.getvalue())


def write_tsv(chance: random.Random, rows: Rows) -> bytes:
    return write_csv(chance, rows, delimiter="\t")


def write_jsonl(chance: random.Random, rows: Rows) -> bytes:
    lines = [json.dumps(row, default=repr) for row in rows]
    if chance.random() < 0.2:
        lines[chance.randrange(len(lines))] = chance.choice(
            ("[" * 100_000, "1" * 5000, "null", "{}", '{"path": NaN}', "x")
        )
    return encode(chance, "\n".join(lines))


def encode(chance: random.Random, text: str) -> bytes:
    return text.encode(chance.choice(ENCODINGS), "replace")


def make_arrow(chance: random.Random, rows: Rows) -> pa.Table:
    """Return a table in which a column may have any type."""
    names = [name for name in COLUMNS if any(name in row for row in rows)] or ["path"]
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        if chance.random() < 0.15:
            values = (chance.choice(TYPED) * len(rows))[: len(rows)]
        try:
            columns.append(pa.array(values))
        except (pa.ArrowException, ValueError, OverflowError):  # mixed types
            columns.append(pa.array([str(value).encode("utf-8", "replace") for value in values]))
        if chance.random() < 0.1 and pa.types.is_string(columns[-1].type):
            columns[-1] = columns[-1].dictionary_encode()
    return pa.table(columns, names=[chance.choice((name,) * 20 + ("path",)) for name in names])


def write_parquet(chance: random.Random, rows: Rows) -> bytes:
    stream = io.BytesIO()
    codec = chance.choice(("none", "snappy", "gzip", "zstd", "brotli"))
    parquet.write_table(make_arrow(chance, rows), stream, compression=codec, use_dictionary=chance.random() < 0.5)
    return stream.getvalue()


def write_arrow(chance: random.Random, rows: Rows) -> bytes:
    stream = io.BytesIO()
    table = make_arrow(chance, rows)
    open_writer = chance.choice((pa.ipc.new_file, pa.ipc.new_stream))
    with open_writer(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


WRITERS = {
    ".csv": write_csv,
    ".tsv": write_tsv,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
    ".arrow": write_arrow,
}
