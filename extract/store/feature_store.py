"""``FeatureStore``: features on disk, opened, read, checked."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import IdentityError, InputError, StoreDamagedError, StoreError
from ...models.weights import digest_of_file
from ..atomic import new_folder, write_file
from ..cut import Column
from ..graph import INPUTS_FOLDER, ExportedGraph, write_inputs
from ..identity import digest, require_same
from .block_matrix import BlockMatrix
from .index import Index, part_name
from .log import Entry, Log
from .part import open_matrix
from .pin import Pin
from .segment import Segment
from .state import State, StoredColumn, state_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..extraction import Extraction

STORE_FORMAT = 1
STORE_FILE = "store.json"
OPEN_FILES = 64
"""Matrices of parts that are kept open while rows are gathered."""


class FeatureStore:
    """A directory of features that one backbone computed.

    Made by :meth:`create`, opened by :meth:`open`. What it shows is the state at that moment, or after its own writes.

    Parameters
    ----------
    path : Path
        The store's folder.
    identity : dict
        The input identity: every item was computed by a backbone and preprocessing that agree with it.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = identity
        self.log = Log(path)
        self._pin: Pin | None = None
        self.refresh()

    @classmethod
    def create(cls, path: str | Path, extractor: Extraction) -> FeatureStore:
        """Create an empty store for an extractor's features.

        Parameters
        ----------
        path : path
            A folder that does not exist yet, or is empty.
        extractor : Extractor or Extraction
            Its graph is copied into the store, so that items can be added without torch.

        Raises
        ------
        StoreError
            If there is something at `path`.
        """
        path = Path(path)
        require_place(path)
        graph = extractor.graph
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.rmdir()
        with new_folder(path) as folder:
            for name in ("graphs", "parts", "log"):
                (folder / name).mkdir()
            content = {
                "format": STORE_FORMAT,
                "fingerprint": digest(graph.metadata.identity),
                "identity": graph.metadata.identity,
            }
            write_file(folder / STORE_FILE, json.dumps(content, indent=1).encode())
            _add_columns(folder, graph)
        return cls.open(path)

    @classmethod
    def open_or_create(cls, path: str | Path, extractor: Extraction) -> FeatureStore:
        """Open a store after checking that an extractor's features belong there, or create it.

        Raises
        ------
        IdentityError
            If the store's features are those of another backbone, or lack one of the extractor's columns.
        """
        if not is_store(path):
            try:
                return cls.create(path, extractor)
            except (FileExistsError, StoreError):
                if not is_store(path):  # otherwise another process was faster
                    raise
        store = cls.open(path)
        store.admit(extractor)
        return store

    @classmethod
    def open(cls, path: str | Path) -> FeatureStore:
        """Open a store.

        Raises
        ------
        StoreError
            If there is no store at `path`, or another version wrote it.
        StoreDamagedError
            If its description or log is damaged.
        """
        path = Path(path)
        if not is_store(path):
            raise StoreError(
                f"{path} is not a feature store: it has no {STORE_FILE}. Create one with FeatureStore.create, "
                "or `topwork extract SOURCE --store DIR`."
            )
        try:
            fields = json.loads((path / STORE_FILE).read_bytes())
            version, identity, fingerprint = fields["format"], fields["identity"], fields["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreDamagedError(f"{path / STORE_FILE} cannot be read: {error}. Restore it from a copy.") from error
        if version != STORE_FORMAT:
            raise StoreError(
                f"{path} has format {version}, expected {STORE_FORMAT}: another version of topwork wrote it"
            )
        if digest(identity) != fingerprint:
            raise StoreDamagedError(
                f"{path / STORE_FILE} was changed: its identity does not have its fingerprint. Restore it from a copy."
            )
        return cls(path, identity)

    @cached_property
    def index(self) -> Index:
        """The state that the log tells."""
        return Index(self.path, self.entries)

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
    def graph(self) -> ExportedGraph:
        """The graph that computes the store's columns."""
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
    def splits(self) -> list[str | None]:
        """Of the rows of every matrix "train", "val", "test", or what else the source says."""
        return self.index.column("split")

    @property
    def groups(self) -> list[str]:
        """Of the rows of every matrix what belongs together: the id of the item, and for its views, too."""
        return [group or item_id for group, item_id in zip(self.index.column("group"), self.ids, strict=True)]

    @property
    def labels(self) -> list[str | None]:
        """Labels of the rows of every matrix."""
        return self.index.column("label")

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
        matrix = open_matrix(self.path / self.state.compacted, stored.key)
        if matrix.shape[1] != stored.column.width or matrix.dtype != np.dtype(stored.column.dtype):
            raise StoreDamagedError(
                f"{self.path / self.state.compacted / stored.key}.npy holds {matrix.dtype} of shape {matrix.shape}; "
                f"expected {stored.column.width} columns of {stored.column.dtype}. `topwork store verify` says more."
            )
        return matrix

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

    def compact(self, patience: float = 0.0) -> None:
        """Merge the parts into one with a file for each column in row order, so that a matrix is a memory map.

        Readers go on with what they see; the files that are replaced are removed once nobody has the store open.

        Parameters
        ----------
        patience : float
            Seconds to wait for another process that is writing.
        """
        from .writer import open_writer

        with open_writer(self, patience) as writer:
            writer.compact()

    def verify(self) -> list[str]:
        """Check every file that the log names against its SHA-256.

        Returns
        -------
        list of str
            The files that are missing or damaged; empty if all is well. A broken chain of the log raises.
        """
        self.log.history()
        return [
            name
            for name, sha in self.state.files.items()
            if not (self.path / name).is_file() or digest_of_file(self.path / name) != sha
        ]

    def admit(self, extractor: Extraction) -> None:
        """Check that an extractor's features belong here; from then on it computes as those here were computed.

        Raises
        ------
        IdentityError
            If the store's features are those of another backbone, lack one of the extractor's columns, or are of
            another precision than the one it was given by name.
        """
        extractor.adopt(self.graph)
        self.require_columns(extractor.identity, extractor.columns)

    def require_columns(self, identity: dict[str, Any], columns: Sequence[Column]) -> None:
        """Raise an error that names the first difference if an extractor's features do not belong here.

        Parameters
        ----------
        identity : dict
            The extractor's input identity.
        columns : sequence of Column
            Each must be a column of the store.

        Raises
        ------
        IdentityError
        """
        require_same(identity, self.identity, f"the backbone is not that of {self.path}")
        ours = {column.name: column.to_json() for column in self.columns}
        for column in columns:
            if column.name not in ours:
                raise IdentityError(
                    f"{self.path} has no column {column.name!r}; it has {', '.join(ours)}. Use another store for it."
                )
            require_same(column.to_json(), ours[column.name], f"column {column.name!r} is not that of {self.path}")

    def refresh(self) -> None:
        """Show what has been written since the store was opened."""
        self.release()
        self._pin = Pin(self.path / STORE_FILE)
        self.entries: list[Entry] = self.log.entries()
        self.state: State = state_of(self.entries)

    def release(self) -> None:
        """Let go of what was seen: files that a compaction replaced may be removed."""
        for name in ("index", "_row_numbers"):
            self.__dict__.pop(name, None)
        if self._pin is not None:
            self._pin.release()
        self._pin = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the store again where it goes."""
        return FeatureStore.open, (self.path,)


def gathered(root: Path, stored: StoredColumn, items: Segment) -> BlockMatrix:
    """Return the rows of a column, wherever they lie."""

    @functools.lru_cache(maxsize=OPEN_FILES)
    def open_part(number: int) -> NDArray[Any]:
        return open_matrix(root / part_name(number), stored.key)

    parts, rows = (items.numbers(name)[items.has_features] for name in ("part", "row"))
    return BlockMatrix(open_part, parts, rows, stored.column.width, stored.column.dtype)


def is_store(path: str | Path) -> bool:
    """Tell whether a folder is a feature store."""
    return (Path(path) / STORE_FILE).is_file()


def require_place(path: Path) -> None:
    """Raise an error if a store could not be made here."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not existing.is_dir() or (existing == path and any(path.iterdir())):
        raise StoreError(f"{existing} exists already; open a store with FeatureStore.open, or choose another folder")


def _add_columns(root: Path, graph: ExportedGraph) -> None:
    """Copy a graph, its certificate and its tokeniser into a store and enter its columns into the log."""
    columns = [
        {"key": f"c{number:04d}", "column": column.to_json()} for number, column in enumerate(graph.metadata.columns, 1)
    ]
    target = root / "graphs" / f"{columns[0]['key']}.onnx"
    shutil.copyfile(graph.path, target)
    copied = ExportedGraph(target)
    copied.write_certificate(graph.certificate)
    inputs = write_inputs(graph.input_spec, root / INPUTS_FOLDER)
    Log(root).append(
        None,
        "add_columns",
        [target, copied.certificate_path, *inputs],
        {"graph": target.relative_to(root).as_posix(), "columns": columns},
    )
