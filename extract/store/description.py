"""``store.json``, which describes a store; and the creation of an empty store."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...atomic import new_folder, write_file
from ...errors import StoreDamagedError, StoreError
from ...identity import digest
from ...url_secrets import without_secrets
from ..graphs.exported_graph import INPUTS_FOLDER, ExportedGraph, write_inputs
from ..sources.url import is_url, local_path
from .log import Action, Log
from .remote_copy import STORE_FILE, find_remote_url, open_copy
from .state import assign_keys

if TYPE_CHECKING:
    from ..graphs.cut import Column

STORE_FORMAT = 1


class FeatureExtractor(Protocol):
    """The part of an extractor's interface that a store uses; see :class:`topwork.Extractor`."""

    precision: str
    precision_: str

    @property
    def graph(self) -> ExportedGraph:
        """The exported graph."""

    @property
    def identity(self) -> dict[str, Any]:
        """The input identity of the features."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that the extractor computes."""

    def adopt(self, graph: ExportedGraph) -> None:
        """Compute in the precision and with the settings of a store's graph from now on."""


def read_identity(path: Path) -> dict[str, Any]:
    """Return the input identity of a store; raise a StoreError if another version wrote it or it is damaged."""
    file = path / STORE_FILE
    try:
        fields = json.loads(file.read_bytes())
        version = fields["format"]
        identity: dict[str, Any] = fields["identity"]
        fingerprint = fields["fingerprint"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreDamagedError(f"{file} cannot be read: {error}. Restore it from a copy.") from error
    if version != STORE_FORMAT:
        raise StoreError(f"{path} has format {version}, expected {STORE_FORMAT}: another version of topwork wrote it")
    if digest(identity) != fingerprint:
        raise StoreDamagedError(
            f"{file} was changed: its identity does not match its fingerprint. Restore it from a copy."
        )
    return identity


def is_store(path: str | Path) -> bool:
    """Return whether there is a feature store in a folder, or at a URL."""
    url = find_remote_url(path)
    if url is not None:
        return open_copy(url).exists(STORE_FILE)
    return (local_folder(path) / STORE_FILE).is_file()


def require_place(path: str | Path) -> None:
    """Raise an error if no store can be created at a path or URL, because something is there already."""
    if find_remote_url(path) is not None:
        if is_store(path):
            raise StoreError(f"{without_secrets(str(path))} is a feature store already; open it, or choose another URL")
        return
    if is_url(path) and local_path(str(path)) is None:
        raise StoreError(f"{without_secrets(str(path))} is no place for a store; expected a folder, or object storage")
    path = local_folder(path)
    folders = (path, *path.absolute().parents)
    existing = next(folder for folder in folders if folder.exists())
    is_occupied = existing == path and existing.is_dir() and any(path.iterdir())
    if is_occupied or not existing.is_dir():
        if is_store(existing):
            raise StoreError(f"{existing} exists already, a feature store; open it, or choose another folder")
        raise StoreError(f"{existing} exists already and is no feature store; choose another folder")


def local_folder(place: str | Path) -> Path:
    """Return the folder at a path, or at the URL of a folder of this machine."""
    folder = local_path(str(place)) if is_url(place) else None
    return Path(place) if folder is None else folder


def open_place(place: str | Path) -> Path:
    """Return the folder of the store at a path or URL; of the latter, that of its local copy, brought up to date."""
    url = find_remote_url(place)
    if url is None:
        return local_folder(place)
    copy = open_copy(url)
    copy.pull()
    return copy.folder


@contextlib.contextmanager
def new_store(path: str | Path, identity: dict[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder to fill, which is moved to `path`, a path or URL, at the end.

    Nothing is left if the block raises. A FileExistsError is raised if another process creates a store there.
    """
    require_place(path)
    url = find_remote_url(path)
    with new_folder_at(local_folder(path)) if url is None else open_copy(url).new_folder() as folder:
        for name in ("graphs", "parts", "log"):
            (folder / name).mkdir()
        content = {"format": STORE_FORMAT, "fingerprint": digest(identity), "identity": identity}
        write_file(folder / STORE_FILE, json.dumps(content, indent=1).encode())
        yield folder


@contextlib.contextmanager
def new_folder_at(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill, which is moved to `path`, where nothing or an empty folder is, at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.rmdir()
    with new_folder(path) as folder:
        yield folder


def add_first_columns(root: Path, graph: ExportedGraph, dtype: str, *, link: bool = False) -> None:
    """Copy a graph, its certificate and its tokeniser into a new store, and add its columns as the first log entry.

    With `link`, the graph is linked, where that is possible.
    """
    target = root / "graphs" / "c0001.onnx"
    name = target.relative_to(root).as_posix()
    columns = assign_keys([replace(column, dtype=dtype) for column in graph.metadata.columns], graph=name)
    copied = graph.copy_files(target, link=link)
    copied.write_certificate(graph.certificate)
    if graph.canaries is not None:
        shutil.copyfile(graph.canaries.path, copied.canaries_path)
    input_files = write_inputs(graph.input_spec, root / INPUTS_FOLDER)
    Log(root).append(
        last=None,
        action=Action.ADD_COLUMNS,
        files=[*copied.list_files(), *input_files],
        details={"graph": name, "columns": [column.to_json() for column in columns]},
    )
