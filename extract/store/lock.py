"""Locks of a store: one writer at a time, and readers that keep the files they have open.

A writer holds ``write.lock``, which also contains its process id and host: for people, and for file systems whose locks
do not reach other hosts. A reader holds a shared lock on ``store.json``; parts that a compaction replaced are removed
only under an exclusive one. The operating system drops both kinds when a process ends, however it ends. On systems
without such locks nothing is held, and a reader whose files were removed is told to refresh.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ...errors import StoreLockedError

LOCK_FILE = "write.lock"
SECONDS_BETWEEN_ATTEMPTS = 0.1

HELD_ERRORS = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""Errors of a lock that another process has; any other means that the file system has no locks."""


@contextlib.contextmanager
def write_lock(root: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the store's write lock, after waiting `patience` seconds for another process.

    A lock that an ended process of this host left behind is taken over.
    """
    path = root / LOCK_FILE
    stream = wait_for_lock(path, patience)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        stream.close()


def wait_for_lock(path: Path, patience: float) -> IO[str]:
    """Return the locked file, or raise an error when the time is up."""
    deadline = time.monotonic() + patience
    while True:
        stream = open_locked(path)
        if stream is not None:
            return stream
        if time.monotonic() >= deadline:
            raise StoreLockedError(
                f"{path.parent} is being written by another process ({read_holder(path)}). Wait until it has ended; "
                f"if its host no longer exists, remove {path}."
            )
        time.sleep(SECONDS_BETWEEN_ATTEMPTS)


def open_locked(path: Path) -> IO[str] | None:
    """Return the locked file, None if another process holds the lock."""
    try:
        stream = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - the lock lives as long as the file is open
    except FileNotFoundError as error:
        raise StoreLockedError(
            f"{path.parent} was removed by another process, as `topwork store merge` does with a finished shard; run "
            "the command again"
        ) from error
    if not try_lock(stream) or not is_still_at(path, stream) or is_held_by_another_host(path):
        stream.close()
        return None
    stream.truncate(0)
    json.dump({"pid": os.getpid(), "host": socket.gethostname()}, stream)
    stream.flush()
    return stream


def try_lock(stream: IO[str]) -> bool:
    """Lock an open file, and return whether that was possible at once."""
    try:
        if os.name == "nt":
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in HELD_ERRORS  # a file system without locks holds none
    return True


def is_still_at(path: Path, stream: IO[str]) -> bool:
    """Return whether the locked file is still the one at the path: its last holder may have removed it meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(stream.fileno()))
    return False


def is_held_by_another_host(path: Path) -> bool:
    """Return whether the lock file names another host."""
    this_host = socket.gethostname()
    return read_holder(path).get("host", this_host) != this_host


def read_holder(path: Path) -> dict[str, object]:
    """Return the process id and host in the file; empty if its holder was killed while writing them."""
    with contextlib.suppress(OSError, ValueError):
        holder: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        return holder
    return {}


class ReaderLock:
    """A shared lock on an existing file, held until :meth:`release` or until this object is garbage collected."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        self._closing = weakref.finalize(self, os.close, descriptor)
        _try_reader_lock(descriptor, is_exclusive=False)

    def release(self) -> None:
        """Release the lock; further calls do nothing."""
        self._closing()


@contextlib.contextmanager
def try_exclude_readers(path: Path) -> Iterator[bool]:
    """Yield whether no :class:`ReaderLock` of the file is held; none can be taken inside the block."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _try_reader_lock(descriptor, is_exclusive=True)
    finally:
        os.close(descriptor)


def _try_reader_lock(descriptor: int, is_exclusive: bool) -> bool:
    """Lock a file and return whether that succeeded; only a shared lock waits for an exclusive one to end."""
    if os.name == "nt":
        return True  # Windows refuses to remove mapped files by itself
    import fcntl

    operation = fcntl.LOCK_EX | fcntl.LOCK_NB if is_exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, operation)
    except OSError:
        return False
    return True
