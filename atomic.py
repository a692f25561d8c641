"""Write files and folders atomically: after a crash they are complete, or absent."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import shutil
import sys
import tempfile
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

TEMPORARY = ".tmp-"
"""Prefix of the names of files and folders that are being written."""
AT_FDCWD = -100
"""For system calls: paths are relative to the working folder."""
RENAME_EXCHANGE = 2
OCCUPIED_ERRORS = (errno.ENOTEMPTY, errno.EEXIST)
"""Of a folder that is renamed to a name that another one has."""
MAX_REPLACEMENTS = 100
"""How often a folder is replaced that others put back or replace at the same time."""
PROBE_BYTES = 65_536
"""Bytes that are written to see whether there is room at a destination."""
FULL_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the quota of the disk is used up; free some space",
}
"""Cause and remedy of the errors of a disk that has no room."""


@contextlib.contextmanager
def name_full_disk(path: Path) -> Iterator[None]:
    """Let the error of a full disk name `path`, which is being written, whatever file the system named.

    A file in the folder of temporary files is named itself, unless `path` is there, too.
    """
    try:
        yield
    except OSError as error:
        if type(error) is not OSError or error.errno not in FULL_DISK_ERRORS:
            raise
        temporary_files = Path(tempfile.gettempdir())
        named = Path(error.filename2 or error.filename or path)  # of a copy the second one is written
        is_temporary = named.is_relative_to(temporary_files) and not path.absolute().is_relative_to(temporary_files)
        raise OSError(error.errno, error.strerror, str(named if is_temporary else path)) from error


def write_file(path: Path, content: bytes, *, exclusive: bool = False) -> None:
    """Write a file under a temporary name, force it to disk, move it into place, force the folder to disk.

    The folder must exist. If `exclusive`, raise a FileExistsError instead of replacing a file.
    """
    temporary = path.with_name(temporary_name())
    try:
        with name_full_disk(path), open(temporary, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if exclusive:
            os.link(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def new_file(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield the name of a temporary file to write; at the end it is forced to disk and moved to `path`.

    If the block raises, nothing is left behind. An existing file stays, and FileExistsError is raised, unless it is to
    be replaced.
    """
    sweep_after_dead_processes(path.parent)
    temporary = path.with_name(temporary_name())
    try:
        with name_full_disk(path):
            yield temporary
            sync_file(temporary)
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; at the end it is forced to disk and moved to `path`.

    If the block raises, nothing is left behind. A folder that another process put there first stays, and
    FileExistsError is raised.
    """
    temporary = path.with_name(temporary_name(f"{path.name}-"))
    with name_full_disk(path):
        temporary.mkdir(parents=True)
    sweep_after_dead_processes(path.parent)
    try:
        with name_full_disk(path):
            yield temporary
            _sync_files(temporary)
        move_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(path.parent)


def move_folder(temporary: Path, path: Path) -> None:
    """Rename a folder; raise a FileExistsError if something with content has the new name."""
    if path.exists():
        raise FileExistsError(path)
    try:
        os.rename(temporary, path)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:  # a folder has appeared since
            raise FileExistsError(path) from error
        raise


def replace_folder(new: Path, path: Path) -> None:
    """Move a complete folder to `path`; what was there is then at `new`, or gone.

    Where the system exchanges two folders in one step, others see the old or the new one. Elsewhere the old one is set
    aside for a moment: it is put back on any exception, and after a kill by :func:`restore_replaced`.
    """
    for _ in range(MAX_REPLACEMENTS):
        restore_replaced(path)
        if path.exists():
            shutil.rmtree(_aside(path), ignore_errors=True)  # of a process that was killed after it moved the new one
            if exchange(new, path):
                return
        if _replace_in_two_steps(new, path):
            return
    raise OSError(errno.EBUSY, "other processes replace it, too; save again when they have ended", str(path))


def _replace_in_two_steps(new: Path, path: Path) -> bool:
    """Set the old folder aside and move the new one; return False if others put a folder there meanwhile."""
    aside = _aside(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside)
        os.rename(new, path)
    except BaseException as error:
        restore_replaced(path)
        if isinstance(error, OSError) and error.errno in OCCUPIED_ERRORS:
            return False
        raise
    shutil.rmtree(aside, ignore_errors=True)
    return True


def restore_replaced(path: Path) -> None:
    """Put a folder back that a killed :func:`replace_folder` left aside, if nothing has taken its place."""
    if path.exists() or not is_set_aside(path):
        return
    try:
        os.rename(_aside(path), path)
    except OSError as error:
        is_denied = isinstance(error, FileNotFoundError | PermissionError)  # another process was faster, or owns it
        if not is_denied and error.errno not in OCCUPIED_ERRORS:
            raise


def is_set_aside(path: Path) -> bool:
    """Return whether another folder is about to take the place of one."""
    return _aside(path).is_dir()


def exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step; return False if the system or its file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), str(other))


def temporary_name(prefix: str = "") -> str:
    """Return a new name that says which process of which machine writes under it."""
    return f"{TEMPORARY}{prefix}{uuid.uuid4().hex}.{_machine()}.{os.getpid()}"


def sweep_after_dead_processes(folder: Path) -> None:
    """Remove from a folder of the user's what processes of this machine began to write before they were killed."""
    for leftover in folder.glob(f"{TEMPORARY}*.{_machine()}.*"):
        process = leftover.name.rpartition(".")[2]
        if process.isdecimal() and not _is_running(int(process)):
            _remove(leftover)


def require_destination(path: Path) -> None:
    """Raise an OSError that names the path if no file or folder can be written there, before any work is done."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def link_or_copy(source: Path, target: Path) -> None:
    """Make a file that never changes available under a second name, as a link if the file system has links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders that interrupted writers left in a folder."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        _remove(leftover)


def _aside(path: Path) -> Path:
    """Return where a folder is while another takes its place; never swept, as it may be all that there is."""
    return path.with_name(f".{path.name}.replaced")


def _remove(leftover: Path) -> None:
    if leftover.is_dir():
        shutil.rmtree(leftover, ignore_errors=True)
    else:
        with contextlib.suppress(PermissionError):
            leftover.unlink(missing_ok=True)


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return True  # there a signal would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _sync_files(root: Path) -> None:
    """Force the files of a folder and its sub-folders to disk, then the folders."""
    paths = list(root.rglob("*"))
    for file in paths:
        if file.is_file():
            sync_file(file)
    sync_folder(root)
    for folder in paths:
        if folder.is_dir():
            sync_folder(folder)


def sync_file(file: Path) -> None:
    """Force the content of a file to disk."""
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk, where the system supports it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
