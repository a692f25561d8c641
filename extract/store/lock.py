"""One writer at a time: a file with the writer's process id and host."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from ...errors import StoreLockedError
from ..atomic import write_file

LOCK_FILE = "write.lock"


@contextlib.contextmanager
def write_lock(root: Path) -> Iterator[None]:
    """Hold the store's lock; a lock whose process has ended on this host is taken over.

    Raises
    ------
    StoreLockedError
        If another process is writing.
    """
    path = root / LOCK_FILE
    _remove_if_stale(path)
    holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
    try:
        write_file(path, holder.encode(), exclusive=True)
    except FileExistsError as error:
        raise StoreLockedError(
            f"{root} is being written by another process ({_holder(path)}). Wait for it to end; if that "
            f"host is gone, remove {path}."
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _remove_if_stale(path: Path) -> None:
    holder = _holder(path)
    if holder is None or holder.get("host") != socket.gethostname() or _is_alive(holder["pid"]):
        return
    path.unlink(missing_ok=True)


def _holder(path: Path) -> dict[str, object] | None:
    """Return who holds the lock; one that cannot be read was damaged, as it is written whole or not at all."""
    with contextlib.suppress(FileNotFoundError):
        try:
            holder: dict[str, object] = json.loads(path.read_bytes())
            return holder
        except ValueError:
            return {"pid": 0, "host": socket.gethostname()}
    return None


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    if pid == os.getpid() or os.name == "nt":  # Windows has no harmless signal to ask with
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
