"""The user's cache folder: what is kept there is nobody else's, and carries its SHA-256.

Entries are made anew where they are damaged. A folder or file that another user owns or may change is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .atomic import temporary_name, write_file
from .errors import CacheError
from .identity import digest, digest_of_file

CACHE_VARIABLE = "TOPWORK_CACHE"
"""Environment variable: the cache folder, instead of the user's own; empty counts as unset."""
STORES = "stores"
"""Folder of the local copies of stores in object storage, which are compared with the log of their store."""
TUNING = "tuning"
"""Folder of what was found to be fast on this machine."""
ENGINES = "engines"
"""Folder of what TensorRT builds from graphs, which takes minutes."""
PRIVATE_MODE = 0o700
"""Mode of the folders of the cache."""
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH

_intact: dict[Path, list[tuple[int, ...]]] = {}
"""The seals that were checked in this process, with the sizes and times of the files at that moment."""


def user_cache_folder() -> Path:
    """Return the folder of what can be made anew: ``TOPWORK_CACHE``, or one in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else _default_folder()


def prepare_folder(folder: Path) -> Path:
    """Make a folder of the cache and those above it with mode 0700, and return it.

    Raise a CacheError if another user owns one of them or may write there. Folders that topwork itself made with wider
    modes, as earlier versions did, are narrowed.
    """
    root = user_cache_folder()
    for path in reversed(_folders_within(folder, root)):
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=PRIVATE_MODE)
        is_ours = path != root or root == _default_folder()
        status = path.stat()
        if is_ours and _has_own_owner(status) and status.st_mode & OTHERS_MAY_WRITE:
            path.chmod(PRIVATE_MODE)
        require_own(path)
    return folder


def require_own(path: Path) -> None:
    """Raise a CacheError if another user owns a file or folder, or may change it."""
    if os.name == "nt":
        return  # access lists decide there, and the cache lies in the user's profile
    status = path.stat()
    if not _has_own_owner(status):
        raise CacheError(
            f"{path} belongs to another user (number {status.st_uid}); what is cached is run, so it must be your own. "
            f"Remove it, or set {CACHE_VARIABLE} to a folder of yours."
        )
    is_sticky = stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)
    if status.st_mode & OTHERS_MAY_WRITE and not is_sticky:
        raise CacheError(
            f"{path} can be changed by other users (mode {stat.S_IMODE(status.st_mode):o}); what is cached is run, so "
            f"it must be your own. Remove it if others may have changed it, or run `chmod go-w`; or set "
            f"{CACHE_VARIABLE} to a folder of yours."
        )


def remember(path: Path, value: Any) -> None:
    """Write a JSON value with its SHA-256; a folder of the cache is made."""
    if user_cache_folder() in path.parents:
        prepare_folder(path.parent)
    content = {"sha256": digest(value), "value": value}
    write_file(path, json.dumps(content, indent=1, default=str).encode())
    _forbid_others_to_write(path)


def recall(path: Path) -> Any:
    """Read what :func:`remember` wrote; None if there is nothing, or it is damaged.

    Raise a CacheError if another user may have written it.
    """
    if not path.is_file():
        return None
    for folder in _folders_within(path, user_cache_folder()):
        require_own(folder)
    try:
        content = json.loads(path.read_bytes())
        is_undamaged = content["sha256"] == digest(content["value"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return content["value"] if is_undamaged else None


def seal(path: Path, files: Sequence[Path], entry: str) -> None:
    """Write the SHA-256 of files into a seal beside them; `entry` is what they are kept under."""
    for file in files:
        _forbid_others_to_write(file)
    remember(path, {"entry": entry, "files": _digest_files(path, files)})


def is_sealed(path: Path, files: Sequence[Path], entry: str) -> bool:
    """Return whether a seal was made for an entry and names these files, each with its SHA-256.

    They are read once per process while their sizes and times stay. Raise a CacheError if another user may have written
    one of them.
    """
    sealed = recall(path)
    if not isinstance(sealed, dict) or sealed.get("entry") != entry:
        return False
    for file in files:
        require_own(file)
    state = [_describe_state(file) for file in (path, *files)]
    if _intact.get(path) == state:
        return True
    if sealed.get("files") != _digest_files(path, files):
        return False
    _intact[path] = state
    return True


def discard(path: Path) -> None:
    """Remove an entry, in one step for those who look for it."""
    aside = path.with_name(temporary_name())
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)


def _default_folder() -> Path:
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "topwork"


def _folders_within(path: Path, root: Path) -> list[Path]:
    """Return a path and those above it up to the cache folder; itself alone if it lies elsewhere."""
    paths = [path, *path.parents]
    if root not in paths:
        return [path]
    return paths[: paths.index(root) + 1]


def _has_own_owner(status: os.stat_result) -> bool:
    return os.name == "nt" or status.st_uid in (os.geteuid(), 0)


def _forbid_others_to_write(file: Path) -> None:
    mode = file.stat().st_mode
    if os.name != "nt" and mode & OTHERS_MAY_WRITE:
        file.chmod(stat.S_IMODE(mode) & ~OTHERS_MAY_WRITE)


def _digest_files(path: Path, files: Sequence[Path]) -> dict[str, str]:
    names = [Path(os.path.relpath(file, path.parent)).as_posix() for file in files]
    return {name: digest_of_file(file) for name, file in zip(names, files, strict=True)}


def _describe_state(file: Path) -> tuple[int, ...]:
    status = file.stat()
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
