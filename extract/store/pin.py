"""Readers keep what they see: parts that a compaction replaced are removed only when nobody has the store open.

A reader holds a shared lock on ``store.json``; whoever removes needs it alone. The operating system drops the lock when
a process ends. Where there are no such locks nothing is held, and a reader that comes too late is told to refresh.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator
from pathlib import Path


class Pin:
    """A shared lock, held until :meth:`release`, or until nothing refers to this object.

    Parameters
    ----------
    path : Path
        An existing file; it is only read.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        self._closing = weakref.finalize(self, os.close, descriptor)
        _lock(descriptor, alone=False)

    def release(self) -> None:
        """Let go."""
        self._closing()


@contextlib.contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Tell whether nobody has pinned a file; nobody can inside the block."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _lock(descriptor, alone=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, alone: bool) -> bool:
    """Lock a file, and tell whether that was possible; a reader waits for the moment in which a writer removes."""
    if os.name == "nt":
        return True  # mapped files cannot be removed there
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except OSError:
        return False
    return True
