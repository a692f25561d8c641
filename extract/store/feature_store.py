"""``FeatureStore``: features on disk, opened, read, checked."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
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
from .index import Index
from .log import Entry, Log
from .part import open_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..extraction import Extraction

STORE_FORMAT = 1
STORE_FILE = "store.json"


@dataclass(frozen=True)
class StoredColumn:
    """A column, its key in file names, and the graph that computes it."""

    key: str
    graph: str
    column: Column


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
        self.entries: list[Entry] = self.log.entries()
        self._index: Index | None = None

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

    @property
    def index(self) -> Index:
        """The state that the log tells."""
        if self._index is None:
            self._index = Index(self.path, self.entries, writable=False)
        return self._index

    @property
    def fingerprint(self) -> str:
        """Digest of the input identity."""
        return digest(self.identity)

    @cached_property
    def stored_columns(self) -> tuple[StoredColumn, ...]:
        """The columns with their keys and graphs."""
        return tuple(
            StoredColumn(fields["key"], entry.details["graph"], Column(**fields["column"]))
            for entry in self.entries
            if entry.action == "add_columns"
            for fields in entry.details["columns"]
        )

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
    def labels(self) -> list[str | None]:
        """Labels of the rows of every matrix."""
        return self.index.column("label")

    def failures(self) -> list[tuple[str, str]]:
        """Return id and reason of every item that failed; such items have no row."""
        return self.index.failures()

    def matrix(self, column: str) -> NDArray[np.float32]:
        """Return one column's features.

        Parameters
        ----------
        column : str
            A column's name.

        Returns
        -------
        ndarray of float32, shape (n_rows, n_features)
            Read-only; a memory map where one part holds all rows in order.
        """
        chosen = [stored for stored in self.stored_columns if stored.column.name == column]
        if not chosen:
            names = ", ".join(c.name for c in self.columns)
            raise InputError(f"{self.path} has no column {column!r}; it has {names}")
        matrix = self._gather(chosen[0])
        matrix.flags.writeable = False
        return matrix

    def _gather(self, stored: StoredColumn) -> NDArray[np.float32]:
        parts, rows = np.array(self.index.column("part")), np.array(self.index.column("row"), np.int64)
        names = list(dict.fromkeys(parts.tolist()))
        if len(names) == 1 and np.array_equal(rows, np.arange(len(rows))):
            mapped = open_matrix(self.path / names[0], stored.key)
            if len(mapped) == len(rows):
                return mapped
        out = np.empty((len(rows), stored.column.width), stored.column.dtype)
        for name in names:
            here = parts == name
            out[here] = open_matrix(self.path / name, stored.key)[rows[here]]
        return out

    def verify(self) -> list[str]:
        """Check every file that the log names against its SHA-256.

        Returns
        -------
        list of str
            The files that are missing or damaged; empty if all is well. A broken chain of the log raises.
        """
        named = {name: sha for entry in self.log.entries() for name, sha in entry.files.items()}
        return [
            name
            for name, sha in named.items()
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
        self.entries = self.log.entries()
        self._index = None
        self.__dict__.pop("stored_columns", None)


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
