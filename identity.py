"""What makes features comparable: input identities, and canonical digests."""

from __future__ import annotations

import hashlib
import json
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
