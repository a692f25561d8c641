"""Items given from Python: paths, arrays, PIL images, texts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import SourceError
from ..item import Item, content_digest
from .file import facts, read_file
from .labelling import UniqueIds

EXPECTED = {
    "image": "a path, a uint8 array or a PIL image",
    "text": "a text, or the path of a text file",
    "tensor": "an array of numbers, or the path of an .npy file",
}


class SequenceSource:
    """A sequence of items, in its own order.

    Parameters
    ----------
    items : sequence
        Paths, uint8 arrays ``(height, width[, 3])`` or PIL images; texts; or arrays of numbers. A path is its own id;
        anything else gets its content's digest for one.
    labels : sequence, optional
        As many as there are items.
    kind : {"image", "text", "tensor"}
        A string is a text where texts are wanted, and a path otherwise.
    """

    ignored = 0

    def __init__(self, items: Any, labels: Sequence[Any] | None = None, kind: str = "image") -> None:
        self.kind = kind
        if kind == "image" and isinstance(items, np.ndarray) and items.ndim < 4 and items.shape[-1:] in ((3,), (4,)):
            raise SourceError(f"an array of shape {items.shape} is one image; expected a sequence: put it into a list")
        if isinstance(items, Mapping) or hasattr(items, "columns"):
            raise SourceError(f"a {type(items).__name__} is no sequence of items; pass one of its columns or values")
        self.items = list(items)
        self.labels = None if labels is None else list(labels)
        if self.labels is not None and len(self.labels) != len(self.items):
            raise SourceError(
                f"{len(self.items)} items but {len(self.labels)} labels; expected one label for each item"
            )

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in their order."""
        unique = UniqueIds()
        for position, value in enumerate(self.items):
            label = None if self.labels is None else self.labels[position]
            item = _item(value, None if label is None else str(label), position, self.kind)
            yield replace(item, id=unique(item.id))


def _item(value: Any, label: str | None, position: int, kind: str) -> Item:
    if kind == "text" and isinstance(value, str):
        return Item(f"text:{content_digest(value)[:32]}", lambda: value, label)
    if isinstance(value, (str, os.PathLike)):
        path = os.fspath(value)
        return Item(Path(path).as_posix(), partial(read_file, path), label, None, *facts(path))
    if kind != "text" and (isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "tobytes")):
        return Item(f"array:{content_digest(value)[:32]}", lambda: value, label)
    raise SourceError(f"item {position} is a {type(value).__name__}; expected {EXPECTED[kind]}")
