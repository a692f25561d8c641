"""What the path of an item says: whether it is one, its label, its split."""

from __future__ import annotations

import os
from collections import Counter

IMAGES = ".jpg .jpeg .jpe .jfif .png .gif .webp .bmp .tif .tiff .ppm .pgm .avif"
SUFFIXES = {"image": tuple(IMAGES.split()), "text": (".txt",), "tensor": (".npy",)}
"""Endings of the files that are items, by what the backbone eats."""
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def is_item(name: str, kind: str) -> bool:
    """Tell by its name whether a file should be an image, a text or a tensor; hidden files are not."""
    base = name.rpartition("/")[2]
    return base.lower().endswith(SUFFIXES[kind]) and not base.startswith(".")


def label_and_split(identifier: str) -> tuple[str | None, str | None]:
    """Return label and split of an item by its folders: the first one names the label, unless it names a split.

    Examples
    --------
    >>> label_and_split("ants/1.jpg"), label_and_split("train/ants/1.jpg"), label_and_split("1.jpg")
    (('ants', None), ('ants', 'train'), (None, None))
    """
    folders = identifier.split("/")[:-1]
    split = SPLITS.get(folders[0].lower()) if folders else None
    folders = folders[1:] if split else folders
    return (folders[0] if folders else None), split


def text_of(name: str) -> str:
    """Return a file's name as text that can be stored, whatever its encoding was."""
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, which no file's name can hold
        return name.encode("utf-8", "backslashreplace").decode()


class UniqueIds:
    """Tells apart what a source names twice: the second ``a`` becomes ``a#2``.

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
