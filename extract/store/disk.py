"""What is wrong with a disk that cannot be written, for people."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from ...errors import StoreWriteError

CAUSES = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the quota of the disk is used up; make room",
    errno.EACCES: "writing is not allowed; change the permissions of the folder",
    errno.EPERM: "writing is not allowed; change the permissions of the folder",
    errno.EROFS: "its file system is read-only",
    errno.EIO: "the disk reports an error",
}


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say of a disk that cannot be written what is wrong and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in CAUSES or isinstance(error, StoreWriteError):
            raise
        raise StoreWriteError(
            error.errno, f"{path} cannot be written: {CAUSES[error.errno]}, and run the command again. Nothing is lost"
        ) from error
