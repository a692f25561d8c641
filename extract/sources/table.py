"""A table whose rows are items: text, or the paths of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DecodeError, SourceError
from ...url_secrets import hide_secrets
from .embedded import EmbeddedFiles, holds_bytes, holds_paths
from .file import file_item
from .identifiers import UniqueIds, storable_text
from .item import Item, content_id
from .item_kinds import ITEM_KINDS
from .path_labels import find_layout, list_folders, name_split
from .table_file import PATH_COLUMN, is_datasets_folder, open_cells, read_column, read_rows
from .table_labels import read_row_labels
from .url import is_url, url_item

if TYPE_CHECKING:
    import pyarrow

TYPED_SUFFIXES = (".parquet", ".arrow")
CONTENT_COLUMNS = ("path", "image", "img", "audio", "bytes", "content")
"""Columns of typed tables that may hold files themselves."""
METADATA_COLUMN = "file_name"
"""Column of files in the tables of image folders of the hub of Hugging Face."""


@dataclass(frozen=True)
class Table:
    """A table on disk, with the names of its columns; None takes a column of the field's own name if there is one.

    Parameters
    ----------
    file : str or path
        A ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet`` or ``.arrow`` file, or a folder that ``datasets`` saved.
    path, text : str or None
        The column that holds the items: files, relative to the table's folder, or text.
    label : str, sequence of str or None
        A column of labels. Lists in it are several labels for each item. Of several columns, each named after its
        label, every one says whether its label applies (1 or 0, true or false).
    id, split : str or None
    group, weight : str or None
        Columns of groups, which are held out together, and of the weights of items in training; none by default.
    label_separator : str or None
        Text that stands between several labels in one cell, such as ``"|"``; an empty cell is no label.
    allow_hosts : sequence of str
        Of a table at a URL: hosts beside its own folder whose files it may name, such as ``"images.org"``,
        ``"localhost:8000"`` or ``"s3://bucket"``; files may redirect to these as well.
    allow_local : bool
        Of a table at a URL: whether it may name files of this machine.

    Examples
    --------
    >>> Table("train.csv", text="question", label="topic").label
    'topic'
    """

    file: str | Path
    path: str | None = None
    text: str | None = None
    label: str | Sequence[str] | None = None
    id: str | None = None
    split: str | None = None
    group: str | None = None
    weight: str | None = None
    label_separator: str | None = None
    allow_hosts: Sequence[str] = ()
    allow_local: bool = False


TABLE_FIELDS = ("path", "text", "id", "split")
OPTIONAL_FIELDS = ("group", "weight")
"""Columns that are read only if they are named."""


class TableSource:
    """The rows of a table, which is read at once, in their order; files in it are read when they are needed.

    A path is its own id; a text has an id made from its content's digest, unless there is a column of ids.
    """

    ignored = 0

    def __init__(self, table: Table, kind: str = "image") -> None:
        self.path = Path(table.file)
        rows = read_rows(self.path, keep=list_columns(table))
        self.rows = rows
        content = find_content_column(self.path, rows, table)
        if content is not None:
            rows = rows.drop_columns([content])
            table = replace(table, path=None)
        elif table.path is None and "path" not in rows.column_names and METADATA_COLUMN in rows.column_names:
            table = replace(table, path=METADATA_COLUMN)
        self._columns = self._read_columns(rows, table)
        self._labels = read_row_labels(self.path, rows, table.label, table.label_separator)

        # Texts are taken where the kind of input has them, unless only the column of paths was named.
        has_texts = "text" in ITEM_KINDS[kind].content_columns and self._columns["text"] is not None
        is_path_requested = table.path is not None and table.text is None
        self._has_texts = has_texts and not is_path_requested
        self._contents = self._columns["text" if self._has_texts else "path"] or []
        self._files = None
        if content is not None and not self._has_texts:
            self._files = EmbeddedFiles(open_cells(self.path, self.rows, content), self.file_item)
        elif not self._has_texts and self._columns["path"] is None:
            raise SourceError(describe_missing_column(self.path, rows, kind))

    def _read_columns(self, rows: pyarrow.Table, table: Table) -> dict[str, list[str | None] | None]:
        """Return the cells of each field but the label as texts, None where there is no such column."""
        columns = {field: read_column(self.path, rows, field, getattr(table, field)) for field in TABLE_FIELDS}
        for field in OPTIONAL_FIELDS:
            name = getattr(table, field)
            columns[field] = None if name is None else read_column(self.path, rows, field, name)
        return columns

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in the table's order."""
        unique = UniqueIds()
        make_item = text_item if self._has_texts else self.file_item
        items = map(make_item, self._contents) if self._files is None else iter(self._files)
        for row, item in enumerate(items):
            split = self._storable_cell("split", row)
            if split is not None:
                split = name_split(split)
            yield replace(
                item,
                id=unique(hide_secrets(self._storable_cell("id", row) or item.id)),
                label=None if self._labels is None else self._labels[row],
                split=split,
                held_out_with=self._storable_cell("group", row),
                weight=self._storable_cell("weight", row),
            )

    def _storable_cell(self, field: str, row: int) -> str | None:
        """Return a cell as text that can be stored; None for an empty one, and where there is no such column."""
        column = self._columns[field]
        if column is None or not column[row]:
            return None
        return storable_text(str(column[row]))

    def file_item(self, name: str | None) -> Item:
        """Return the file of a row as an item."""
        if not name:
            return Item("path:", partial(_require_text, None))
        if is_url(name):
            return url_item(name)
        return file_item(storable_text(Path(name).as_posix()), str(self.path.parent / name))


class FolderTable(TableSource):
    """The rows of a folder's own table; folders state the split, and the label if the table has no column of labels."""

    def __init__(self, path: Path, kind: str = "image") -> None:
        super().__init__(Table(path, path=METADATA_COLUMN), kind)
        self._layout = find_layout({list_folders(name) for name in self._contents if name})

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in the table's order."""
        for name, item in zip(self._contents, super().__iter__(), strict=True):
            label, split = self._layout.label_and_split(name or "")
            if self._labels is not None:
                label = item.label
            yield replace(item, label=label, split=item.split or split)


def list_columns(table: Table) -> set[str]:
    """Return the names of the columns of a table that are read as values."""
    labels = [table.label] if isinstance(table.label, str) else list(table.label or ())
    named = [table.text, table.id, table.split, table.group, table.weight, *labels]
    return {*TABLE_FIELDS, "label", *(name for name in named if name)} - {"path"}


def find_content_column(path: Path, rows: pyarrow.Table, table: Table) -> str | None:
    """Return the column of a typed table that holds files: their bytes, or ``datasets``' pairs of bytes and path."""
    if path.suffix.lower() not in TYPED_SUFFIXES and not is_datasets_folder(path):
        return None
    candidates = CONTENT_COLUMNS if table.path is None else (table.path,)
    for name in candidates:
        is_single = rows.column_names.count(name) == 1
        if is_single and holds_bytes(rows.schema.field(name).type):
            has_paths = name == PATH_COLUMN and holds_paths(open_cells(path, rows, name))
            if not has_paths:
                return name
    return None


def describe_missing_column(path: Path, rows: pyarrow.Table, kind: str) -> str:
    """Return the error of a table without a column of items, with what may be meant."""
    names = rows.column_names
    wanted = " or ".join(map(repr, ITEM_KINDS[kind].content_columns))
    bytes_names = [field.name for field in rows.schema if holds_bytes(field.type)]
    hint = ""
    if len(names) == 1 and ";" in names[0]:
        hint = ". Its cells are divided by semicolons: save it with commas"
    elif bytes_names:
        hint = f". Files may be in {', '.join(bytes_names)}: --path-column {bytes_names[0]}"
    elif "text" in names:
        hint = f". This backbone expects {kind} input; for text choose another, such as --backbone hf:NAME"
    return (
        f"table {path} has the columns {', '.join(names)}; expected one called {wanted}, "
        f"or its name (--text-column, --path-column){hint}"
    )


def text_item(text: str | None) -> Item:
    """Return the text of a row as an item."""
    return Item(content_id("text", text or ""), partial(_require_text, text))


def _require_text(text: str | None) -> str:
    if text is None:
        raise DecodeError("this row of the table is empty")
    return text
