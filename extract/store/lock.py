"""One writer at a time: a locked file with the writer's process id and host.

The operating system holds the lock and drops it when the process ends, however it ends. What the file says is for
people, and for file systems whose locks do not reach other hosts.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ...errors import StoreLockedError

LOCK_FILE = "write.lock"
PAUSE = 0.1


@contextlib.contextmanager
def write_lock(root: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the store's lock; one that a process of this host left behind is taken over.

    Parameters
    ----------
    root : Path
        The store's folder.
    patience : float
        Seconds to wait for another process.

    Raises
    ------
    StoreLockedError
        If another process is writing.
    """
    path, deadline = root / LOCK_FILE, time.monotonic() + patience
    while (stream := _locked(path)) is None:
        if time.monotonic() >= deadline:
            raise StoreLockedError(
                f"{root} is being written by another process ({_holder(path)}). Wait for it to end; if its "
                f"host is gone, remove {path}."
            )
        time.sleep(PAUSE)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        stream.close()


def _locked(path: Path) -> IO[str] | None:
    """Return the locked file, None if somebody else has it."""
    stream = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - the lock lives as long as the file is open
    if not _try_lock(stream) or not _is_still(path, stream) or _is_of_another_host(path):
        stream.close()
        return None
    stream.truncate(0)
    json.dump({"pid": os.getpid(), "host": socket.gethostname()}, stream)
    stream.flush()
    return stream


def _try_lock(stream: IO[str]) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_still(path: Path, stream: IO[str]) -> bool:
    """Tell whether the file that was locked is the one at the path: its last holder may have removed it meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(stream.fileno()))
    return False


def _is_of_another_host(path: Path) -> bool:
    return _holder(path).get("host", socket.gethostname()) != socket.gethostname()


def _holder(path: Path) -> dict[str, object]:
    """Return what the file says of its holder; one that was killed while writing it says nothing."""
    with contextlib.suppress(OSError, ValueError):
        holder: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        return holder
    return {}
