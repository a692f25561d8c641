"""Ids of items, and the labels and splits that paths state."""

from __future__ import annotations

import os
from collections import Counter

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Split of each name that a folder or a cell of a table may have, in lower case."""
HELD_OUT_SPLITS = frozenset({name for name, split in SPLIT_NAMES.items() if split != "train"} | {"dev"})
"""Splits whose items are never trained on."""


def label_and_split(identifier: str) -> tuple[str | None, str | None]:
    """Return label and split of an item by its folders: the first one names the label, unless it names a split."""
    folders = identifier.split("/")[:-1]
    split = None
    if folders and folders[0].lower() in SPLIT_NAMES:
        split = SPLIT_NAMES[folders.pop(0).lower()]
    label = folders[0] if folders else None
    return label, split


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
