"""Write rows to a file for people and their tools."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...atomic import write_file
from ...errors import InputError

SUFFIXES = (".csv", ".jsonl")


def require_row_file(path: Path) -> None:
    """Raise an error if a file's ending says nothing of how rows are written."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: expected a file that ends in {' or '.join(SUFFIXES)}")


def write_rows(path: Path, rows: Sequence[dict[str, Any]], names: Sequence[str] = ()) -> None:
    """Write rows into a ``.csv`` or ``.jsonl`` file, whole or not at all.

    Parameters
    ----------
    path : Path
    rows : sequence of dict
    names : sequence of str
        Columns that are there whether or not a row has them.
    """
    require_row_file(path)
    lines = (f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    text = _csv(rows, names) if path.suffix == ".csv" else "".join(lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.encode())


def _csv(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    names = list(dict.fromkeys([*names, *(name for row in rows for name in row)]))
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
