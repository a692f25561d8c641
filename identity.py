"""What makes features comparable: input identities, and canonical digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from .errors import IdentityError


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON text.

    Examples
    --------
    >>> digest({"a": 1, "b": (2, 3)}) == digest({"b": [2, 3], "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's content."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of_path(path: Path) -> str:
    """Return the SHA-256 of a file's content, or over the names and contents of all files below a folder."""
    if path.is_file():
        return digest_of_file(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}|{digest_of_file(file)}|".encode())
    return digest.hexdigest()


def require_same(found: dict[str, Any], expected: dict[str, Any], what: str) -> None:
    """Raise an error that names the first field in which two identities differ.

    Raises
    ------
    IdentityError
        If they differ.
    """
    for name in sorted(set(found) | set(expected)):
        ours, theirs = found.get(name), expected.get(name)
        if digest(ours) == digest(theirs):
            continue
        if isinstance(ours, dict) and isinstance(theirs, dict):
            require_same(ours, theirs, f"{what}, {name}")
        raise IdentityError(
            f"{what}: {name} is {_short(ours)}, expected {_short(theirs)}. "
            "Features of different backbones cannot be mixed: use another store, or the same backbone."
        )


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "…"
