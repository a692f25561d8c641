"""Identities of features, and the digests that they are made of."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from .errors import IdentityError

COMPUTATION = "computation"
"""Field of an identity: digest of the model's traced program. See :mod:`topwork.extract.graphs.same_model`."""
MAX_SHOWN_LETTERS = 80
"""Letters of a value that an error shows."""


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON text."""
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
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            whole.update(f"{file.relative_to(path).as_posix()}|{digest_of_file(file)}|".encode())
    return whole.hexdigest()


def require_same(found: dict[str, Any], expected: dict[str, Any], what: str) -> None:
    """Raise an IdentityError that names the first field in which two identities, nested dictionaries, differ.

    The computation is left out: different versions trace it differently. `what` begins the message.
    """
    for name in sorted((set(found) | set(expected)) - {COMPUTATION}):
        found_value = found.get(name)
        expected_value = expected.get(name)
        if digest(found_value) == digest(expected_value):
            continue
        if isinstance(found_value, dict) and isinstance(expected_value, dict):
            require_same(found_value, expected_value, f"{what}, {name}")
        raise IdentityError(
            f"{what}: {name} is {_shorten(found_value)}, expected {_shorten(expected_value)}. "
            "Features of different backbones cannot be mixed: use another store, or the same backbone."
        )


def _shorten(value: Any) -> str:
    text = json.dumps(value, default=str)
    if len(text) > MAX_SHOWN_LETTERS:
        return text[: MAX_SHOWN_LETTERS - 3] + "…"
    return text
