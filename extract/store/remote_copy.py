"""A store in object storage and its local copy: files are fetched when they are read, and sent before the log is.

A store at a URL is worked with in a folder of the user's cache that has the same layout. The log's entries are fetched
when the store is opened; the other files when they are needed, and they are compared with the SHA-256 in the log. A
writer sends the files of an entry and then the entry itself, by a request that fails if another process has sent that
entry ("conditional put"), so that of two writers at once one gets an error and nothing is mixed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ...atomic import sync_file, temporary_name, write_file
from ...errors import StoreDamagedError, StoreError, TransientError, warn_caller
from ...identity import digest, digest_of_file
from ...url_secrets import hide_secrets, without_secrets
from ...user_cache import STORES, prepare_folder, user_cache_folder
from ..sources.retries import read_number, repeat
from ..sources.url import explain, find_file_system, is_url, local_path

Result = TypeVar("Result")
LOG_FOLDER = "log"
STORE_FILE = "store.json"
OWN_FOLDERS = ("finished", "graphs", "inputs", "labels", LOG_FOLDER, "parts")
"""Folders that a store may consist of."""
CREATION_FILE = "creation.json"
"""File that is there while a store is created."""
CREATION_SECONDS = 600.0
"""Age at which a creation counts as interrupted."""
THREADS = 16
"""Requests that are made at a time."""
LIMIT_VARIABLE = "TOPWORK_STORE_CACHE_GB"
"""Environment variable: gigabytes of features that the local copy of a store may hold."""
DEFAULT_LIMIT_GB = 20.0
EVICTED_TO = 0.9
"""Share of the limit that is left when features are removed, so that they are not looked through for every file."""
WEB_PROTOCOLS = ("http://", "https://")
CONDITIONAL_PROTOCOLS = ("s3", "s3a", "gs", "gcs", "memory")
"""Protocols whose file systems in fsspec create a file only if there is none."""
CONFLICT = "ConditionalRequestConflict"
"""Code of S3 for two requests at once that create the same file."""
EXCLUSIVE = "create"
"""Mode in which fsspec creates a file only if there is none."""

ONE_WRITER = "let only one process write to a store at a time"

_copies: dict[Path, RemoteCopy] = {}
"""The local copies that this process works with, by their folders."""


def find_remote_url(place: str | Path) -> str | None:
    """Return the URL of a store in object storage; None for a path, and for what is no place of stores, as the web."""
    if not is_url(place) or local_path(str(place)) is not None or str(place).lower().startswith(WEB_PROTOCOLS):
        return None
    return str(place).rstrip("/")


def open_copy(url: str) -> RemoteCopy:
    """Return the local copy of the store at a URL, one in a process; nothing is fetched yet."""
    folder = user_cache_folder() / STORES / digest(url)[:32]
    copy = _copies.get(folder)
    if copy is None:
        prepare_folder(folder)
        copy = _copies[folder] = RemoteCopy(url, folder)
    return copy


def find_copy(path: Path) -> RemoteCopy | None:
    """Return the local copy of a store in object storage that a path lies in; None for a store on disk."""
    if not _copies:
        return None
    return next((_copies[folder] for folder in (path, *path.parents) if folder in _copies), None)


def provide(path: Path) -> Path:
    """Return the path of a store's file, which is fetched if it belongs to a local copy that lacks it."""
    copy = find_copy(path)
    if copy is not None:
        copy.provide(path)
    return path


class RemoteCopy:
    """The local copy of the store at a URL; `expected` is the SHA-256 of every file that its log names."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.name = without_secrets(url)
        self.folder = folder
        self.expected: dict[str, str] = {}
        self._is_compared = False
        self._is_tried = False
        self._held: int | None = None
        self._lock = threading.Lock()

    def place(self, name: str) -> str:
        """Return the URL of a file or folder of the store."""
        return f"{self.url}/{name}"

    # Requests.

    def request(self, name: str, act: Callable[[Any, str], Result]) -> Result:
        """Return what a function makes of the file system and the path of a file in it; failures are repeated."""
        try:
            system, root = find_file_system(self.url)
            return repeat(partial(attempt, act, system, f"{root}/{name}" if name else root))
        except (FileNotFoundError, FileExistsError, StoreError):
            raise
        except Exception as error:  # each file system has errors of its own
            raise StoreError(hide_secrets(f"{self.name}/{name}: {explain(self.url, error)}")) from None

    def exists(self, name: str) -> bool:
        """Return whether there is a file of a name."""

        def look(system: Any, path: str) -> bool:
            system.invalidate_cache()
            return bool(system.info(path)["type"] == "file")

        try:
            return self.request(name, look)
        except FileNotFoundError:
            return False

    def read(self, name: str) -> bytes:
        """Return the content of a file; raise a FileNotFoundError if there is none."""

        def cat(system: Any, path: str) -> bytes:
            content: bytes = system.cat_file(path)
            return content

        return self.request(name, cat)

    def list_names(self, folder: str) -> list[str]:
        """Return the names of files and folders in a folder, none if it does not exist."""

        def list_folder(system: Any, path: str) -> list[str]:
            system.invalidate_cache()
            try:
                return sorted(each.rstrip("/").rpartition("/")[2] for each in system.ls(path, detail=False))
            except FileNotFoundError:
                return []

        return self.request(folder, list_folder)

    def create(self, name: str, content: bytes) -> None:
        """Create a file; raise a FileExistsError if there is one with another content.

        One with this content was created by an earlier attempt whose answer was lost.
        """
        try:
            self.request(name, lambda system, path: create_file(system, path, content))
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):  # removed since
                if self.read(name) == content:
                    return
            raise

    def send(self, name: str, folder: Path | None = None) -> None:
        """Send a file of the local copy, or of another folder; raise a FileExistsError if there is another one."""
        own = (folder or self.folder) / name
        try:
            self.request(name, lambda system, path: send_file(system, str(own), path))
        except FileExistsError:
            if self.compute_digest(name) != digest_of_file(own):
                raise

    def send_all(self, names: Iterable[str], folder: Path | None = None) -> None:
        """Send several files at a time; see :meth:`send`."""
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(lambda name: self.send(name, folder), names):
                pass

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it; nothing is done if there is none."""
        with contextlib.suppress(FileNotFoundError):
            self.request(name, lambda system, path: system.rm(path, recursive=True))

    def compute_digest(self, name: str) -> str:
        """Return the SHA-256 of a file in object storage, which is fetched for it."""
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as folder:
            temporary = Path(folder) / "content"
            self.request(name, lambda system, path: system.get_file(path, str(temporary)))
            return digest_of_file(temporary)

    # The store.

    def warn_if_unconditional(self) -> None:
        """Warn, once in a process, if the server replaces a file that a request was to create.

        It is asked to create the description of the store, which is there, with its own content.
        """
        if self._is_tried:
            return
        self._is_tried = True
        content = self.read(STORE_FILE)
        try:
            self.request(STORE_FILE, lambda system, path: create_file(system, path, content))
        except FileExistsError:
            return
        warn_caller(
            f"the server of {self.name} replaces files that were to be created (it ignores If-None-Match): {ONE_WRITER}"
        )

    def reserve_part(self, part: str) -> bool:
        """Return whether no other process writes to the folder of a part, nor did before it ended; none will."""
        try:
            self.create(f"{part}/owner", uuid.uuid4().hex.encode())
        except FileExistsError:
            return False
        return True

    @contextlib.contextmanager
    def new_folder(self) -> Iterator[Path]:
        """Yield a temporary folder to fill with a new store, which is sent at the end, its description last.

        Raise a FileExistsError if another process creates a store there; what one that was killed has left is removed.
        """
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as name:
            folder = Path(name)
            yield folder
            self._begin_creation()
            files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
            self.send_all([name for name in files if name != STORE_FILE], folder)
            self.forget()  # before other processes can find the store, and work with the same local copy
            shutil.copytree(folder, self.folder, dirs_exist_ok=True)
            self.send(STORE_FILE, folder)
            self.remove(CREATION_FILE)

    def _begin_creation(self) -> None:
        """Remove what is left of an interrupted creation; raise a FileExistsError if there is a store at the end.

        The first of several processes creates the store; the others wait for it as long as it may be alive. Raise a
        StoreError if there is anything else.
        """
        names = self.list_names("")
        if names and STORE_FILE not in names and CREATION_FILE not in names:
            raise StoreError(
                f"{self.name} is not empty, and no feature store ({names[0]} is there); choose another URL"
            )
        mark = json.dumps({"time": time.time(), "owner": uuid.uuid4().hex}).encode()
        while True:
            try:
                self.create(CREATION_FILE, mark)
                break
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - json.loads(self.read(CREATION_FILE))["time"] > CREATION_SECONDS:
                        self.remove(CREATION_FILE)
            if self.exists(STORE_FILE):
                break
            time.sleep(1.0)
        if self.exists(STORE_FILE):
            with contextlib.suppress(FileNotFoundError):
                if self.read(CREATION_FILE) == mark:
                    self.remove(CREATION_FILE)
            raise FileExistsError(f"{self.name} is a feature store, which another process has created")
        for name in OWN_FOLDERS:
            self.remove(name)

    def begin_removal(self) -> None:
        """Make the store no store any more; what is left of it counts as an interrupted creation from now on."""
        self.create(CREATION_FILE, json.dumps({"time": 0.0, "owner": ""}).encode())
        self.remove(STORE_FILE)

    def pull(self) -> None:
        """Fetch the description of the store, and the entries of its log that the local copy lacks."""
        description = self.read(STORE_FILE)
        numbers = self.list_names(LOG_FOLDER)
        log = self.folder / LOG_FOLDER
        own = sorted(path.name for path in log.glob("*.json"))
        if own and not self._is_compared and not self._has_same_entry(f"{LOG_FOLDER}/{own[-1]}"):
            self.forget()
            own = []
        for name in (LOG_FOLDER, "parts", "graphs"):
            (self.folder / name).mkdir(exist_ok=True)
        if own != numbers:
            with ThreadPoolExecutor(THREADS) as pool:
                missing = [name for name in numbers if name not in set(own)]
                contents = pool.map(lambda name: self.read(f"{LOG_FOLDER}/{name}"), missing)
                for name, content in zip(missing, contents, strict=True):
                    write_file(log / name, content)
        if not (self.folder / STORE_FILE).is_file():
            write_file(self.folder / STORE_FILE, description)
        self._is_compared = True

    def _has_same_entry(self, name: str) -> bool:
        """Return whether an entry of the log is what it was: another store may have been made at this URL."""
        with contextlib.suppress(FileNotFoundError):
            return self.read(name) == (self.folder / name).read_bytes()
        return False

    def forget(self) -> None:
        """Remove the local copy."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def push(self, files: Mapping[str, str], entry: str, content: bytes) -> None:
        """Send the files that an entry of the log names, unless they are there, and then the entry.

        Raise a FileExistsError if another process has sent that entry.
        """
        new = [name for name in files if name not in self.expected and (self.folder / name).is_file()]
        try:
            self.send_all(new)
        except FileExistsError as error:
            raise StoreError(
                f"{self.name} has a file of another run where {', '.join(new)} should be: {error}. Remove it if that "
                "run was interrupted."
            ) from error
        self.create(entry, content)
        self.expected.update(files)
        for name in new:
            if name.endswith(".npy"):
                self._evict(self.folder / name)

    def provide(self, path: Path) -> None:
        """Fetch a file of the store that the local copy lacks; one that differs from the log raises an error."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)  # it was read now
            return
        name = path.relative_to(self.folder).as_posix()
        temporary = path.with_name(temporary_name())
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.request(name, lambda system, remote: self._fetch(system, remote, temporary, name))
            sync_file(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if path.suffix == ".npy":
            self._evict(path)

    def _fetch(self, system: Any, remote: str, temporary: Path, name: str) -> None:
        size = system.info(remote)["size"]
        system.get_file(remote, str(temporary))
        if temporary.stat().st_size != size:
            raise TransientError(f"the file ended after {temporary.stat().st_size:,} of {size:,} bytes")
        expected = self.expected.get(name)
        if expected is not None and digest_of_file(temporary) != expected:
            raise StoreDamagedError(
                f"{self.name}/{name} does not match its SHA-256: it was changed or damaged. Restore it from a copy, or "
                "`topwork store repair`."
            )

    def _evict(self, kept: Path) -> None:
        """Remove the features that were not read for longest if the copy is beyond its limit.

        What is open stays readable: a system keeps a removed file until nobody has it open.
        """
        limit = read_limit()
        with self._lock:
            if self._held is not None and kept.is_file():
                self._held += kept.stat().st_size
                if self._held <= limit:
                    return
            files = []
            for path in self.folder.glob("parts/*/*.npy"):
                with contextlib.suppress(FileNotFoundError):  # another process is removing some, too
                    files.append((path.stat(), path))
            self._held = sum(status.st_size for status, _ in files)
            for status, path in sorted(files, key=lambda pair: pair[0].st_mtime_ns):
                if self._held <= EVICTED_TO * limit:
                    break
                if path != kept:
                    with contextlib.suppress(OSError):  # Windows removes no open file
                        path.unlink()
                        self._held -= status.st_size


def attempt(act: Callable[[Any, str], Result], system: Any, path: str) -> Result:
    """Call a function; that another request is creating the same file is a failure that passes."""
    try:
        return act(system, path)
    except OSError as error:
        if CONFLICT in str(error):
            raise TransientError(str(error)) from error
        raise


def read_limit() -> float:
    """Return the number of bytes of features that a local copy may hold."""
    return read_number(LIMIT_VARIABLE, DEFAULT_LIMIT_GB, minimum=0) * 1e9


def create_file(system: Any, path: str, content: bytes) -> None:
    """Create a file; raise a FileExistsError if there is one."""
    if is_conditional(system):
        system.pipe_file(path, content, mode=EXCLUSIVE)
        return
    require_absent(system, path)
    system.pipe_file(path, content)


def send_file(system: Any, own: str, path: str) -> None:
    """Send a file of this machine; raise a FileExistsError if there is one."""
    if is_conditional(system):
        system.put_file(own, path, mode=EXCLUSIVE)
        return
    require_absent(system, path)
    system.put_file(own, path)


def is_conditional(system: Any) -> bool:
    """Return whether a file system creates a file only if there is none, in one step."""
    protocols = (system.protocol,) if isinstance(system.protocol, str) else system.protocol
    return any(protocol in CONDITIONAL_PROTOCOLS for protocol in protocols)


def require_absent(system: Any, path: str) -> None:
    """Raise a FileExistsError if there is a file; two processes may both find none."""
    warn_caller(f"{system.protocol}:// has no way to create a file only if there is none: {ONE_WRITER}")
    if system.exists(path):
        raise FileExistsError(path)
