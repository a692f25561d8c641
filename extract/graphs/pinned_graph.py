"""A graph in a folder that others may replace: it stays what it was when it was read.

A loaded bundle opens its graph at the first prediction, and again in each forked process. Its files are therefore held
open. If others take their places, they are copied from there into the user's cache folder.
"""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ...atomic import sweep_after_dead_processes, temporary_name
from ...errors import BundleError, reason
from ...identity import digest_of_file
from ...user_cache import prepare_folder, user_cache_folder
from ..runtime.session import Graph, Session
from .exported_graph import ExportedGraph

CAN_HOLD_FILES = hasattr(os, "pread")
"""Elsewhere, as on Windows, an open file keeps its folder from being renamed."""
BYTES_PER_READ = 16 * 2**20
COPIES_FOLDER = "replaced"
"""Folder of the cache with copies of files that were replaced, until the processes that use them end."""

T = TypeVar("T")


class PinnedFiles:
    """Files of a folder as they are now, whatever is put in their place.

    Parameters
    ----------
    folder : Path
    digests : mapping of str to str
        Their SHA-256 by relative POSIX path.
    """

    def __init__(self, folder: Path, digests: Mapping[str, str]) -> None:
        self.folder = folder
        self.digests = dict(digests)
        self._copy: Path | None = None
        self._hold()

    def locate(self) -> Path:
        """Return the folder that has the files now: their own, or that of copies.

        Raise a BundleError if they were replaced and nothing holds them.
        """
        if self._copy is not None and self._copy.is_dir():
            return self._copy
        if self._describe_states() == self._states:
            return self.folder
        if self._is_same_content(self.folder):
            self._hold()
            return self.folder
        self._copy = self._copy_held_files()
        return self._copy

    def read(self, load: Callable[[Path], T]) -> T:
        """Return what a function reads from the folder with the files; it is called again if they were replaced."""
        while True:
            folder = self.locate()
            try:
                loaded = load(folder)
            except Exception:
                if self.locate() == folder:
                    raise
                continue
            if self.locate() == folder:
                return loaded

    def _hold(self) -> None:
        """Open the files, and note what tells them from others in their places."""
        self._states = self._describe_states()
        self._descriptors = self._open_files() if CAN_HOLD_FILES else {}
        weakref.finalize(self, close_all, list(self._descriptors.values())).atexit = False

    def _open_files(self) -> dict[str, int]:
        descriptors: dict[str, int] = {}
        try:
            for name in self.digests:
                descriptors[name] = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # as many files are open as may be, or one is gone
            close_all(list(descriptors.values()))
            return {}
        return descriptors

    def _describe_states(self) -> dict[str, tuple[int, ...]] | None:
        try:
            states = {name: (self.folder / name).stat() for name in self.digests}
        except (FileNotFoundError, NotADirectoryError):
            return None
        return {name: (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns) for name, state in states.items()}

    def _is_same_content(self, folder: Path) -> bool:
        try:
            return all(digest_of_file(folder / name) == digest for name, digest in self.digests.items())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _copy_held_files(self) -> Path:
        remedy = "Load it again."
        if not self._descriptors:
            raise BundleError(f"{self.folder} was replaced or removed after it was loaded. {remedy}")
        try:
            copies = prepare_folder(user_cache_folder() / COPIES_FOLDER)
            sweep_after_dead_processes(copies)
            copy = copies / temporary_name()
            copy.mkdir(mode=0o700)
            weakref.finalize(self, remove_own_copy, copy, os.getpid())
            for name, descriptor in self._descriptors.items():
                (copy / name).parent.mkdir(exist_ok=True)
                copy_descriptor(descriptor, copy / name)
        except OSError as error:
            raise BundleError(
                f"{self.folder} was replaced after it was loaded, and its former files cannot be kept: "
                f"{reason(error)}. {remedy}"
            ) from error
        if not self._is_same_content(copy):
            raise BundleError(f"the files of {self.folder} were changed after it was loaded. {remedy}")
        return copy

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files out: another process can use the files while they are in place."""
        return {**self.__dict__, "_descriptors": {}, "_copy": None}


class PinnedGraph(ExportedGraph):
    """A graph among pinned files.

    Parameters
    ----------
    files : PinnedFiles
        The graph and what belongs to it.
    name : str
        The graph's name among them.
    """

    def __init__(self, files: PinnedFiles, name: str) -> None:
        self.files = files
        self.name = name

    @property
    def path(self) -> Path:
        """Where the graph is now."""
        return self.files.locate() / self.name

    def open(self, provider: str = "auto", runs: int = 1) -> Session:
        """Load the graph, as its base class does, with the certificate and canaries that belong to it."""
        return self.files.read(lambda folder: super(PinnedGraph, self).open(provider, runs))

    @property
    def _loadable(self) -> Graph:
        return self

    def copy_files(self, path: Path, *, link: bool = False) -> ExportedGraph:
        """Copy the graph, and its weights, which belong to it."""
        return self.files.read(lambda folder: super(PinnedGraph, self).copy_files(path, link=link))

    def load(self, load: Callable[[Path], Any]) -> Any:
        """Return what a function makes of the path of the ONNX file; see :meth:`PinnedFiles.read`."""
        return self.files.read(lambda folder: load(folder / self.name))

    def __eq__(self, other: object) -> bool:
        """Return whether two are the same files, as they were read."""
        if not isinstance(other, PinnedGraph):
            return NotImplemented
        return (self.name, self.files.folder, self.files.digests) == (
            other.name,
            other.files.folder,
            other.files.digests,
        )

    def __hash__(self) -> int:
        """Return a hash that does not change when the files are replaced."""
        return hash((self.name, self.files.folder))


def copy_descriptor(descriptor: int, path: Path) -> None:
    """Write the content of an open file into a new one; where the file is read is not changed."""
    size = os.fstat(descriptor).st_size
    with open(path, "xb") as stream:
        for offset in range(0, size, BYTES_PER_READ):
            stream.write(os.pread(descriptor, BYTES_PER_READ, offset))


def close_all(descriptors: list[int]) -> None:
    """Close open files."""
    for descriptor in descriptors:
        os.close(descriptor)


def remove_own_copy(copy: Path, process: int) -> None:
    """Remove copies that this process made; those that it inherited are its parent's."""
    if os.getpid() == process:
        shutil.rmtree(copy, ignore_errors=True)
