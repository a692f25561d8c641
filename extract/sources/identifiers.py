"""Ids of items."""

from __future__ import annotations

import os
from collections import Counter


def storable_text(name: str) -> str:
    """Return a file's name as text that can be stored; bytes in another encoding than UTF-8 are escaped."""
    if name.isascii():
        return name
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, which no file's name can hold
        return name.encode("utf-8", "backslashreplace").decode()


class UniqueIds:
    """Numbering of ids that a source uses several times: the second ``a`` becomes ``a#2``.

    Examples
    --------
    >>> unique = UniqueIds()
    >>> [unique(name) for name in ("a", "b", "a")]
    ['a', 'b', 'a#2']
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._given: set[str] = set()

    def __call__(self, identifier: str) -> str:
        """Return the id of the next item of this name."""
        given = identifier
        while given in self._given or not self._counts[identifier]:
            self._counts[identifier] += 1
            count = self._counts[identifier]
            given = identifier if count == 1 else f"{identifier}#{count}"
        self._given.add(given)
        return given
