"""Read a store: items, labels and features, as its log describes them at one moment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import IdentityError, InputError, StoreDamagedError
from ...identity import digest, require_same
from ...large_arrays import copy_rows
from ...models.audio_spec import WINDOWS
from ..graphs.cut import Column
from ..graphs.exported_graph import INPUTS_FOLDER, ExportedGraph
from ..sources.windows import name_sound
from .block_matrix import BlockMatrix, gather_column
from .filled_rows import FilledRows
from .index import Index
from .lock import ReaderLock
from .log import Log, LogEntry
from .part import open_matrix
from .remote_copy import STORE_FILE, find_copy, provide
from .segment import NO_PLACE
from .state import StoredColumn, StoreState, replay

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_BACKBONE = (
    "the backbone that computed them is unknown, so features of other items cannot be computed. Heads trained on them "
    "predict from stores alone; to add or predict items, use a store that `topwork extract` makes."
)


EXCLUDED_LABELS = "excluded"
"""Name of the labels that exclude items: what has one, such as the reason, counts as without a label."""


class StoreContent:
    """The content of a store at the moment of opening, or after :meth:`refresh`; parts are read on access.

    Parameters
    ----------
    path : Path
        The store's folder.
    identity : dict
        The input identity: every item was computed by a backbone and preprocessing that agree with it.

    Attributes
    ----------
    entries : list of LogEntry
        The log from the last checkpoint on.
    state : StoreState
        Columns, parts and files after these entries.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = identity
        self.log = Log(path)
        self._lock: ReaderLock | None = None
        self.refresh()

    def refresh(self) -> None:
        """Show what has been written since the store was opened."""
        self.release()
        copy = find_copy(self.path)
        if copy is not None:
            copy.pull()
        self._lock = ReaderLock(self.path / STORE_FILE)
        self.entries: list[LogEntry] = self.log.entries()
        self.state: StoreState = replay(self.entries)
        if copy is not None:
            copy.expected = dict(self.state.files)

    def release(self) -> None:
        """Close the files of the store, so that those that a compaction replaced may be removed."""
        for name in ("index", "_row_numbers", "_open_compacted"):
            self.__dict__.pop(name, None)
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    @cached_property
    def index(self) -> Index:
        """The state of the items."""
        return Index(self.path, self.entries)

    @property
    def place(self) -> str:
        """Where the store is: its path, or its URL without what gives access to it."""
        copy = find_copy(self.path)
        return str(self.path) if copy is None else copy.name

    @property
    def fingerprint(self) -> str:
        """Digest of the input identity."""
        return digest(self.identity)

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
        """Whether the features were imported, so that the backbone that computed them is unknown."""
        return not self.stored_columns[0].graph

    @property
    def graph(self) -> ExportedGraph:
        """The graph that computes the store's columns; an IdentityError is raised if the features were imported."""
        if self.is_foreign:
            raise IdentityError(f"{self.place} holds foreign features: {NO_BACKBONE}")
        copy = find_copy(self.path)
        for name in () if copy is None else self.state.files:
            if name.startswith(("graphs/", f"{INPUTS_FOLDER}/")):
                provide(self.path / name)
        return ExportedGraph(self.path / self.stored_columns[0].graph, self.path / INPUTS_FOLDER)

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
        """Split of the rows of every matrix: "train", "val", "test", or any other name."""
        return self.index.labels("split")

    @property
    def groups(self) -> list[str]:
        """Group of the rows of every matrix: an item and its views have the id of the item."""
        return [group or item_id for group, item_id in zip(self.index.column("group"), self.ids, strict=True)]

    @property
    def has_windows(self) -> bool:
        """Whether the items are windows of sounds (``long="windows"``)."""
        return not self.is_foreign and self.identity["input"].get("long") == WINDOWS

    @property
    def sounds(self) -> list[str] | None:
        """Id of the sound that each row is a window of; None where rows are not windows (``long="windows"``)."""
        return [name_sound(group) for group in self.groups] if self.has_windows else None

    @property
    def n_views(self) -> int:
        """Highest number of augmented versions of an item, including failed and pending ones."""
        from pyarrow import compute

        groups = self.index.settle().table["group"].drop_null()
        if not len(groups):
            return 0
        n_views: int = compute.max(compute.value_counts(groups).field("counts")).as_py()
        return n_views

    @property
    def labels(self) -> list[Any]:
        """Labels of the rows of every matrix: those that the user set, else those of the source.

        None for rows without a label, and for items with labels of the name ``excluded`` (:data:`EXCLUDED_LABELS`).
        """
        labels = self.index.labels("label")
        if EXCLUDED_LABELS not in self.label_names:
            return labels
        reasons = self.index.labels(EXCLUDED_LABELS)
        return [label if reason is None else None for label, reason in zip(labels, reasons, strict=True)]

    @property
    def label_names(self) -> list[str]:
        """Names of the columns of labels: ``label`` and ``split``, then those that the user added."""
        return self.index.settle().label_names

    def get_labels(self, name: str = "label") -> list[Any]:
        """Return one column of labels, for the rows of every matrix; None for rows without a label.

        Raises
        ------
        InputError
            If there is no such column.
        """
        if name not in self.label_names:
            raise InputError(f"{self.place} has no labels {name!r}; it has {', '.join(self.label_names)}")
        return self.index.labels(name)

    def failures(self) -> list[tuple[str, str]]:
        """Return id and reason of every item that failed; such items have no row."""
        return self.index.failures()

    def matrix(
        self, column: str | Column, ids: Sequence[str] | None = None, split: str | None = None
    ) -> NDArray[Any] | BlockMatrix:
        """Return one column's features.

        Parameters
        ----------
        column : str or Column
            A column's name, or the column, as in :attr:`columns` or of an extractor. A column that differs from the
            store's in more than its dtype, which is a matter of storage, is an error.
        ids : sequence of str, optional
            Which rows, and in which order; by default all, in the order of :attr:`ids`.
        split : str, optional
            Only the rows of a split, such as ``"train"``.

        Returns
        -------
        ndarray or BlockMatrix, shape (n_rows, n_features)
            Read-only, and read on access. All rows of a compacted store are one memory map; others a block matrix,
            which is sliced and iterated like an array, and converted to one by ``numpy.asarray``.

        Raises
        ------
        InputError
            If there is no such column, or an id has no features.
        """
        stored = self._find_column(column)
        if ids is None and split is None:
            return self._open_all_rows(stored)
        rows = np.arange(self.n_rows) if ids is None else self._find_rows(ids)
        if split is not None:
            is_in_split = np.array([own == split for own in self.splits], bool)
            rows = rows[is_in_split[rows]]
        return self._gather(stored).take(rows)

    def take(self, ids: Sequence[str], column: str | Column) -> NDArray[Any]:
        """Return the features of some items as an array ``(len(ids), n_features)``, in the order of `ids`.

        Parameters
        ----------
        column : str or Column
            As for :meth:`matrix`; or one that is being added, and that these items have already.

        Raises
        ------
        InputError
            If there is no such column, or an id has no features.
        """
        matrix = self.find_features(ids, column)
        if matrix is None:
            self._find_column(column)
        return np.asarray(matrix)

    def find_features(self, ids: Sequence[str], column: str | Column) -> NDArray[Any] | None:
        """Return what :meth:`take` returns; None if the store lacks the column for one of the items."""
        name = column.name if isinstance(column, Column) else column
        rows = self._find_rows(ids)
        if name in {own.name for own in self.columns}:
            return np.asarray(copy_rows(self._open_all_rows(self._find_column(column)), rows))
        items = self.index.settle()
        places = items.find_places(list(ids))
        for filling in self.state.fillings:
            key = filling.find_key(column)
            filled = FilledRows(self.path, items, filling)
            if key is not None and filled.has_all(places):
                return np.asarray(filled.gather(places)[key])
        return None

    def iter_batches(self, column: str | Column, batch_size: int = 1024) -> Iterator[tuple[list[str], NDArray[Any]]]:
        """Yield ids and features ``(n, n_features)`` of the rows, in their order.

        Parameters
        ----------
        column : str or Column
            As for :meth:`matrix`.
        batch_size : int
            Number of rows that are yielded together.
        """
        matrix = self._open_all_rows(self._find_column(column))
        ids = self.ids
        for start in range(0, len(ids), batch_size):
            stop = start + batch_size
            yield ids[start:stop], np.asarray(matrix[start:stop])

    def require_columns(self, identity: dict[str, Any], columns: Sequence[Column]) -> None:
        """Raise an IdentityError that names the first difference if an extractor's features do not belong here.

        Parameters
        ----------
        identity : dict
            The extractor's input identity.
        columns : sequence of Column
            Each must be a column of the store.
        """
        require_same(identity, self.identity, f"the backbone is not that of {self.place}")
        own_columns = {column.name: column for column in self.columns}
        for column in columns:
            if column.name not in own_columns:
                raise IdentityError(
                    f"{self.place} has no column {column.name!r}; it has {', '.join(own_columns)}. Add it with "
                    "add_columns (`topwork extract --add-columns`), or use another store."
                )
            own = own_columns[column.name]
            wanted = replace(column, dtype=own.dtype)  # the dtype is a matter of storage
            require_same(wanted.to_json(), own.to_json(), f"column {column.name!r} is not that of {self.place}")

    def _find_column(self, column: str | Column) -> StoredColumn:
        """Return a column by its name, or after checking that it is the store's."""
        name = column.name if isinstance(column, Column) else column
        columns = {stored.column.name: stored for stored in self.stored_columns}
        if name not in columns:
            raise InputError(f"{self.place} has no column {name!r}; it has {', '.join(columns)}")
        stored = columns[name]
        if isinstance(column, Column):
            check_same_column(column, stored.column, self.path)
        return stored

    def _open_all_rows(self, stored: StoredColumn) -> NDArray[Any] | BlockMatrix:
        if self.state.compacted is None:
            return self._gather(stored)
        matrix = self._open_compacted(stored.key)
        if matrix.shape[1] != stored.column.width or matrix.dtype != np.dtype(stored.column.dtype):
            raise StoreDamagedError(
                f"{self.path / self.state.compacted / stored.key}.npy holds {matrix.dtype} of shape {matrix.shape}; "
                f"expected {stored.column.width} columns of {stored.column.dtype}. Run `topwork store verify`."
            )
        return matrix

    def _gather(self, stored: StoredColumn) -> BlockMatrix:
        """Return all rows of a column from the parts that hold them."""
        parts, rows = self.index.settle().find_features()
        return gather_column(root=self.path, stored=stored, parts=parts, rows=rows)

    @cached_property
    def _open_compacted(self) -> Callable[[str], NDArray[Any]]:
        """A function that maps a column's file into memory, once: pages that were read stay mapped."""
        folder = self.path / str(self.state.compacted)
        return functools.cache(functools.partial(open_matrix, folder))

    def _find_rows(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """Return the rows of items in the matrices, shape (len(ids),)."""
        items = self.index.settle()
        places = items.find_places(list(ids))
        has_row = places != NO_PLACE
        has_row[has_row] = items.has_features[places[has_row]]
        if not has_row.all():
            missing = ids[int(np.argmin(has_row))]
            raise InputError(f"{self.place} has no features of {missing!r}; `ids` lists the items that have some")
        return self._row_numbers[places]

    @cached_property
    def _row_numbers(self) -> NDArray[np.intp]:
        """Row in the matrices of the item at each place of the index."""
        return np.cumsum(self.index.settle().has_features) - 1


def check_same_column(column: Column, own: Column, path: Path) -> None:
    """Raise an error if a column differs from a store's of its name in more than the dtype."""
    given_fields = replace(column, dtype=own.dtype).to_json()
    for field, own_value in own.to_json().items():
        if given_fields[field] != own_value:
            raise InputError(
                f"column {own.name!r} of {path} has {field} {own_value!r}, but the given column has "
                f"{given_fields[field]!r}; pass the name {own.name!r} to read the store's column"
            )
