"""Results as ``.csv`` and ``.jsonl`` files: predictions with one row for each input, and rows of any kind."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...atomic import name_full_disk, new_file, require_destination, sync_folder, write_file
from ...errors import InputError, TopworkError
from ...extract.store.feature_store import FeatureStore
from ...extract.store.lock import open_locked, read_holder
from .prediction_rows import PredictionRows, has_label_sets, list_marks
from .stored_items import StoredItems

if TYPE_CHECKING:
    import pyarrow

    from ...extract.sources.item import Source
    from ...extract.sources.table import Table
    from .transfer_estimator import TransferEstimator

RESULT_SUFFIXES = (".csv", ".jsonl")
PREDICTION_SUFFIXES = (*RESULT_SUFFIXES, ".parquet")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of texts that spreadsheets take for formulas."""
LINE_BREAKS_IN_JSON = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
LABEL_SEPARATOR = "|"
"""Text between several labels in a cell of CSV."""


def write_predictions(
    estimator: TransferEstimator,
    source: str | Table | Source | FeatureStore | StoredItems,
    path: Path,
    *,
    top_k: int | None = None,
    refuse_unfamiliar: bool = False,
    resume_key: str = "",
    excel_safe: bool = False,
) -> dict[str, int]:
    """Predict the items of a source or store, write a table, and return the number of ``items``, and of them by status.

    The ``.csv``, ``.jsonl`` or ``.parquet`` file has ``id``, ``label`` (or ``value``), ``status`` (ok, failed,
    abstained or unfamiliar), ``reason``, ``familiar`` if the estimator knows it, and, if the head has them, a
    probability for each class, or the `top_k` likeliest classes with theirs; then the columns of the table that the
    items are rows of. Several labels are a list of names, in CSV with ``|`` between them. The estimator's ``on_error``
    decides what happens to items that cannot be decoded. Items that are not familiar are counted as ``unfamiliar``;
    they have a label, and are counted by it as well, unless `refuse_unfamiliar`.

    Texts in CSV that a spreadsheet would take for formulas stay as they are, unless `excel_safe`.

    Rows are written a batch at a time, to an unfinished file beside `path`. With a `resume_key`, which says how they
    are computed, a run that was killed is resumed by the next one with the same key. Raise an InputError if another
    process or thread is writing the same file.
    """
    check_suffix(path, PREDICTION_SUFFIXES)
    data = source if isinstance(source, FeatureStore | StoredItems) else estimator.extractor_.open(source)
    rows = PredictionRows(estimator, data, top_k, refuse_unfamiliar=refuse_unfamiliar)
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclude_other_writers(path):
        unfinished = UnfinishedFile(path, rows, resume_key, excel_safe=excel_safe)
        try:
            with name_full_disk(path):
                unfinished.write()
        except TopworkError:
            unfinished.remove_unless_resumable()
            raise
        return unfinished.finish()


@contextlib.contextmanager
def exclude_other_writers(path: Path) -> Iterator[None]:
    """Hold the lock of predictions that are being written; raise an InputError if another process or thread has it."""
    lock = path.with_name(f".{path.name}.unfinished.lock")
    stream = open_locked(lock)
    if stream is None:
        raise InputError(
            f"{path} is being written by another run ({read_holder(lock)}); wait until it has ended, or choose another "
            f"--out. If its host no longer exists, remove {lock}."
        )
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        stream.close()


@dataclass
class Written:
    """What an unfinished file holds: how many rows and bytes, of which items, and their counts by status."""

    key: str
    rows: int = 0
    size: int = 0
    marks: str = ""
    counts: dict[str, int] = field(default_factory=dict)


class UnfinishedFile:
    """Predictions that are being written: lines in a hidden file beside `path`, and an account of them in another."""

    def __init__(self, path: Path, rows: PredictionRows, key: str, *, excel_safe: bool = False) -> None:
        self.path = path
        self.excel_safe = excel_safe
        self.rows = rows
        self.lines = path.with_name(f".{path.name}.unfinished")
        self.account = path.with_name(f".{path.name}.unfinished.json")
        self.written = self._find_written(key)

    def write(self) -> None:
        """Write the rows that are missing; the account is brought up to date after every batch."""
        is_new = not self.written.rows
        with open(self.lines, "wb" if is_new else "r+b") as stream:
            stream.truncate(self.written.size)
            stream.seek(self.written.size)
            if is_new and self.path.suffix == ".csv":
                stream.write(self._format_csv([dict(zip(self.rows.columns, self.rows.columns, strict=True))]))
            for rows, marks in self.rows.iterate(self.written.rows):
                stream.write(self._format(rows))
                stream.flush()
                self._note(rows, marks, stream.tell())
            stream.flush()
            os.fsync(stream.fileno())

    def finish(self) -> dict[str, int]:
        """Move the file into place, and return the counts."""
        if self.path.suffix == ".parquet":
            with new_file(self.path, replace=True) as temporary:
                write_parquet(self.lines, temporary, self.rows)
            self.lines.unlink()
        else:
            os.replace(self.lines, self.path)
            sync_folder(self.path.parent)
        self.account.unlink(missing_ok=True)
        return {"items": self.written.rows, **self.written.counts}

    def remove_unless_resumable(self) -> None:
        """Remove what was written after an error, unless the next run can go on from there."""
        if self.written.key and self.written.rows:
            return
        self.lines.unlink(missing_ok=True)
        self.account.unlink(missing_ok=True)

    def _find_written(self, key: str) -> Written:
        """Return the account of a run that was killed, if it is of the same key and the same items, or a new one."""
        nothing = Written(key, counts=dict.fromkeys(self.rows.statuses, 0))
        try:
            found = Written(**json.loads(self.account.read_bytes()))
            is_whole = self.lines.stat().st_size >= found.size
        except (OSError, ValueError, TypeError):
            return nothing
        if not key or found.key != key or not is_whole:
            return nothing
        marks = ""
        for mark in list_marks(self.rows.data, found.rows):
            marks = chain_mark(marks, mark)
        return found if marks == found.marks else nothing

    def _note(self, rows: list[dict[str, Any]], marks: list[str], size: int) -> None:
        written = self.written
        written.rows += len(rows)
        written.size = size
        for row in rows:
            written.counts[row["status"]] += 1
            if row.get("familiar") is False and row["status"] != "unfamiliar":
                written.counts["unfamiliar"] += 1
        for mark in marks:
            written.marks = chain_mark(written.marks, mark)
        if written.key:
            temporary = self.account.with_suffix(".new")
            temporary.write_text(json.dumps(asdict(written)), encoding="utf-8")
            os.replace(temporary, self.account)

    def _format(self, rows: list[dict[str, Any]]) -> bytes:
        if self.path.suffix == ".csv":
            return self._format_csv(rows)
        return format_json_lines(rows).encode("utf-8", "surrogatepass")

    def _format_csv(self, rows: list[dict[str, Any]]) -> bytes:
        names = self.rows.columns
        cells = [[row.get(name) for name in names] for row in rows]
        if has_label_sets(self.rows.estimator):
            place = names.index("label")
            for row_cells in cells:
                row_cells[place] = format_labels(row_cells[place])
        return format_cells(cells, excel_safe=self.excel_safe).encode("utf-8", "surrogatepass")


def format_labels(labels: Any) -> Any:
    """Return several labels as a cell of CSV, with ``|`` between them, or as JSON if one has it in its name."""
    if not isinstance(labels, list):
        return labels
    has_separator = any(LABEL_SEPARATOR in str(label) for label in labels)
    return json.dumps(labels, ensure_ascii=False) if has_separator else LABEL_SEPARATOR.join(map(str, labels))


def chain_mark(marks: str, mark: str) -> str:
    """Return the digest of a chain of marks after another one."""
    return hashlib.sha256(f"{marks}{mark}".encode("utf-8", "surrogatepass")).hexdigest()


def write_parquet(lines: Path, path: Path, rows: PredictionRows) -> None:
    """Write predictions in lines of JSON as Parquet, a batch at a time."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, parquet_type(name, rows)) for name in rows.columns])
    with open(lines, encoding="utf-8", errors="surrogatepass") as stream, parquet.ParquetWriter(path, schema) as writer:
        while batch := [json.loads(line) for line in islice(stream, rows.batch_rows)]:
            columns = []
            for field_ in schema:
                values = [row.get(field_.name) for row in batch]
                if field_.type == pa.string():
                    values = [as_text(value) for value in values]
                columns.append(pa.array(values, field_.type))
            writer.write_table(pa.table(columns, schema=schema))


def as_text(value: Any) -> str | None:
    """Return a value as text: labels of several types are texts in Parquet."""
    return None if value is None else str(value)


def parquet_type(name: str, rows: PredictionRows) -> pyarrow.DataType:
    """Return the type of a column of predictions."""
    import pyarrow as pa

    of_source = {new: old for old, new in rows.source_columns().items()}
    if name in of_source and rows.table is not None:
        return rows.table[0].schema.field(of_source[name]).type
    if name.startswith("p_"):
        return pa.float64()
    if name == "familiar":
        return pa.bool_()
    if name == "value":
        return pa.float64() if rows.estimator.n_outputs() is None else pa.list_(pa.float64())
    if not name.startswith("label"):
        return pa.string()
    types = {type(label) for label in rows.estimator.classes_.tolist()}
    known = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
    kind = known.get(types.pop(), pa.string()) if len(types) == 1 else pa.string()
    return pa.list_(kind) if name == "label" and has_label_sets(rows.estimator) else kind


def check_suffix(path: Path, allowed: Sequence[str] = RESULT_SUFFIXES) -> None:
    """Raise an InputError if a file does not end as results do."""
    if path.suffix not in allowed:
        raise InputError(f"{path}: expected a file that ends in {' or '.join(allowed)}")


def require_file_place(path: Path) -> None:
    """Raise an error that names the path if no file can be written there, before any work is done."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a file")
    require_destination(path)


def write_rows(
    path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] = (), *, excel_safe: bool = False
) -> None:
    """Write a ``.csv`` or ``.jsonl`` file atomically; a ``.csv`` file has `columns` even if no row has them.

    With `excel_safe`, a spreadsheet takes no text in CSV for a formula.
    """
    check_suffix(path)
    if path.suffix == ".csv":
        text = format_csv(rows, columns, excel_safe=excel_safe)
    else:
        text = format_json_lines(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.encode("utf-8", "surrogatepass"))


def format_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, excel_safe: bool = False) -> str:
    """Return rows as CSV; the header names `columns`, then the other keys of the rows as they first occur."""
    names = dict.fromkeys(columns)  # an ordered set
    for row in rows:
        names |= dict.fromkeys(row)
    cells = [[row.get(name) for name in names] for row in rows]
    return format_cells([list(names), *cells], excel_safe=excel_safe)


def format_cells(rows: Sequence[Sequence[Any]], *, excel_safe: bool = False) -> str:
    """Return rows of cells as CSV (RFC 4180, lines end with a newline alone).

    With `excel_safe`, texts that a spreadsheet would take for formulas begin with an apostrophe (OWASP, "CSV
    Injection").
    """
    stream = io.StringIO(newline="")
    plain = csv.writer(stream, lineterminator="\n")
    quoting = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [protect_from_formulas(cell) for cell in row] if excel_safe else row
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)  # which csv does not quote
        (quoting if has_return else plain).writerow(cells)
    return stream.getvalue()


def protect_from_formulas(cell: Any) -> Any:
    """Return a cell of CSV; a text that begins like a formula has an apostrophe before it."""
    is_formula = isinstance(cell, str) and cell.startswith(FORMULA_STARTS)
    return f"'{cell}" if is_formula else cell


def format_json_lines(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as lines of JSON, in which nothing but their ends is a line break in Unicode."""
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    return text.translate(LINE_BREAKS_IN_JSON)
