"""What a store shows: items, labels and features, as the log tells them at one moment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError, StoreDamagedError
from ..graphs.cut import Column
from .block_matrix import BlockMatrix
from .index import Index, part_name
from .log import Entry
from .part import open_matrix
from .segment import Segment
from .state import State, StoredColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPEN_FILES = 64
"""Matrices of parts that are kept open while rows are gathered."""


class StoreContent:
    """The content of a store, as :attr:`entries` tell it; nothing is read before it is asked for.

    Attributes
    ----------
    path : Path
        The store's folder.
    entries : list of Entry
        Its log, from the last checkpoint on.
    identity : dict
        The input identity.
    state : State
        What they say.
    """

    path: Path
    entries: list[Entry]
    identity: dict[str, Any]
    state: State

    @cached_property
    def index(self) -> Index:
        """The state that the log tells."""
        return Index(self.path, self.entries)

    @property
    def stored_columns(self) -> tuple[StoredColumn, ...]:
        """The columns with their keys and graphs."""
        return self.state.columns

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns: one feature matrix each."""
        return tuple(stored.column for stored in self.stored_columns)

    @property
    def is_foreign(self) -> bool:
        """Whether the features were imported, and nobody knows which backbone computed them."""
        return not self.stored_columns[0].graph

    @property
    def ids(self) -> list[str]:
        """Ids of the rows of every matrix, in the order of first addition."""
        return self.index.column("id")

    @property
    def n_rows(self) -> int:
        """Number of rows of every matrix."""
        return int(self.index.settle().has_features.sum())

    @property
    def splits(self) -> list[Any]:
        """Of the rows of every matrix "train", "val", "test", or what else was said."""
        return self.index.labels("split")

    @property
    def groups(self) -> list[str]:
        """Of the rows of every matrix what belongs together: the id of the item, and for its views, too."""
        return [group or item_id for group, item_id in zip(self.index.column("group"), self.ids, strict=True)]

    @property
    def n_views(self) -> int:
        """How many augmented versions of an item there are at most, those that failed or are pending among them."""
        from pyarrow import compute

        groups = self.index.settle().table["group"].drop_null()
        return compute.max(compute.value_counts(groups).field("counts")).as_py() if len(groups) else 0

    @property
    def labels(self) -> list[Any]:
        """Labels of the rows of every matrix: what the user set, or else what the source says."""
        return self.index.labels("label")

    @property
    def label_names(self) -> list[str]:
        """Names of the columns of labels, the source's first: ``label``, ``split``, and what the user set beside."""
        return self.index.settle().label_names

    def get_labels(self, name: str = "label") -> list[Any]:
        """Return one column of labels, for the rows of every matrix; None where there is none.

        Raises
        ------
        InputError
            If there is no such column.
        """
        if name not in self.label_names:
            raise InputError(f"{self.path} has no labels {name!r}; it has {', '.join(self.label_names)}")
        return self.index.labels(name)

    def failures(self) -> list[tuple[str, str]]:
        """Return id and reason of every item that failed; such items have no row."""
        return self.index.failures()

    def matrix(
        self, column: str, ids: Sequence[str] | None = None, split: str | None = None
    ) -> NDArray[Any] | BlockMatrix:
        """Return one column's features.

        Parameters
        ----------
        column : str
            A column's name.
        ids : sequence of str, optional
            Which rows, and in which order; by default all, in the order of :attr:`ids`.
        split : str, optional
            Only the rows of a split, such as ``"train"``.

        Returns
        -------
        ndarray or BlockMatrix, shape (n_rows, n_features)
            Read-only, nothing is read yet. All rows of a compacted store are one memory map; others a block matrix,
            which is sliced and gone through like an array, and becomes one by ``numpy.asarray``.

        Raises
        ------
        InputError
            If there is no such column, or an id has no features.
        """
        stored = self._stored_column(column)
        if ids is None and split is None:
            return self._whole(stored)
        rows = np.arange(self.n_rows) if ids is None else self._rows_of(ids)
        if split is not None:
            is_in = np.array([own == split for own in self.splits], bool)
            rows = rows[is_in[rows]]
        return gathered(self.path, stored, self.index.settle()).take(rows)

    def _stored_column(self, column: str) -> StoredColumn:
        for stored in self.stored_columns:
            if stored.column.name == column:
                return stored
        names = ", ".join(c.name for c in self.columns)
        raise InputError(f"{self.path} has no column {column!r}; it has {names}")

    def _whole(self, stored: StoredColumn) -> NDArray[Any] | BlockMatrix:
        if self.state.compacted is None:
            return gathered(self.path, stored, self.index.settle())
        matrix = self._open_map(stored.key)
        if matrix.shape[1] != stored.column.width or matrix.dtype != np.dtype(stored.column.dtype):
            raise StoreDamagedError(
                f"{self.path / self.state.compacted / stored.key}.npy holds {matrix.dtype} of shape {matrix.shape}; "
                f"expected {stored.column.width} columns of {stored.column.dtype}. `topwork store verify` says more."
            )
        return matrix

    @cached_property
    def _open_map(self) -> Callable[[str], NDArray[Any]]:
        """What maps a column's file into memory, once: pages that were read stay mapped."""
        folder = self.path / str(self.state.compacted)
        return functools.lru_cache(maxsize=None)(functools.partial(open_matrix, folder))

    def _rows_of(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """Return the rows of items in the matrices."""
        items = self.index.settle()
        places = items.places(list(ids))
        if (places < 0).any() or not items.has_features[places].all():
            missing = next(
                i for i, place in zip(ids, places, strict=True) if place < 0 or not items.has_features[place]
            )
            raise InputError(f"{self.path} has no features of {missing!r}; `ids` lists the items that have some")
        return self._row_numbers[places]

    @cached_property
    def _row_numbers(self) -> NDArray[np.intp]:
        return np.cumsum(self.index.settle().has_features) - 1

    def take(self, ids: Sequence[str], column: str) -> NDArray[Any]:
        """Return the features of some items as an array ``(len(ids), n_features)``, in the order of `ids`.

        Raises
        ------
        InputError
            If there is no such column, or an id has no features.
        """
        matrix = self._whole(self._stored_column(column))
        return np.asarray(matrix[self._rows_of(ids)])

    def iter_batches(self, column: str, batch_size: int = 1024) -> Iterator[tuple[list[str], NDArray[Any]]]:
        """Yield ids and features ``(n, n_features)`` of the rows, in their order, some at a time."""
        matrix, ids = self._whole(self._stored_column(column)), self.ids
        for start in range(0, len(ids), batch_size):
            yield ids[start : start + batch_size], np.asarray(matrix[start : start + batch_size])

    def export(self, path: str | Path, format: str = "parquet", columns: Sequence[str] | None = None) -> None:  # noqa: A002
        """Write the rows for other tools; see :func:`topwork.extract.store.exchange.exporting.export_store`.

        Parameters
        ----------
        path : path
            Must not exist.
        format : {"parquet", "arrow", "datasets"}
            A Parquet file, an Arrow IPC file, or a folder for ``datasets.load_from_disk``.
        columns : sequence of str, optional
            Which columns of features; by default all.
        """
        from .exchange.exporting import export_store

        export_store(self, path, format, columns)


def part_opener(root: Path, key: str) -> Callable[[int], NDArray[Any]]:
    """Return what opens a column's matrix of a part by the part's number, and keeps some of them open."""

    @functools.lru_cache(maxsize=OPEN_FILES)
    def open_part(number: int) -> NDArray[Any]:
        return open_matrix(root / part_name(number), key)

    return open_part


def gathered(root: Path, stored: StoredColumn, items: Segment) -> BlockMatrix:
    """Return the rows of a column, wherever they lie."""
    parts, rows = (items.numbers(name)[items.has_features] for name in ("part", "row"))
    return BlockMatrix(part_opener(root, stored.key), parts, rows, stored.column.width, stored.column.dtype)
