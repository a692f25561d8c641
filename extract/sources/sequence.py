"""Items given from Python: paths, arrays, PIL images, texts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from ...errors import DecodeError, SourceError
from .file import facts, read_file
from .identifiers import UniqueIds, storable_text
from .item import Item, content_digest
from .item_kinds import ITEM_KINDS, ItemKind
from .url import is_url, url_item


class SequenceSource:
    """A sequence of items, in its own order.

    Parameters
    ----------
    items : iterable
        Paths and URLs, uint8 arrays ``(height, width[, 3])`` or PIL images; texts; or arrays of numbers. What can be
        gone through only once is kept.
    labels : iterable, optional
        As many as there are items.
    kind : {"image", "text", "tensor"}
        A string is a text where texts are wanted, and a path or URL otherwise.
    ids : iterable, optional
        As many as there are items, no two of them equal as texts. By default a path is its own id, and anything else
        gets its content's digest for one.

    Raises
    ------
    SourceError
        If it is no sequence of items, or labels or ids do not fit it.
    """

    ignored = 0

    def __init__(
        self, items: Any, labels: Iterable[Any] | None = None, kind: str = "image", ids: Iterable[Any] | None = None
    ) -> None:
        self.kind = kind
        _check_is_sequence(items, ITEM_KINDS[kind])
        self.items = list(items)
        self.labels = _one_each("label", labels, len(self.items))
        given = _one_each("id", ids, len(self.items))
        self.ids = None if given is None else _checked_ids(given)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in their order."""
        unique = UniqueIds()
        for position, value in enumerate(self.items):
            own_id = None if self.ids is None else self.ids[position]
            label = None if self.labels is None else self.labels[position]
            item = _item(value, own_id, position, ITEM_KINDS[self.kind])
            yield replace(item, id=unique(item.id), label=None if _is_missing(label) else storable_text(str(label)))


def _item(value: Any, own_id: str | None, position: int, kind: ItemKind) -> Item:
    if kind.has_strings and isinstance(value, str):
        return Item(own_id or f"text:{content_digest(value)[:32]}", lambda: value)
    if is_url(value):
        item = url_item(value)
        return replace(item, id=own_id or storable_text(item.id))
    if isinstance(value, (str, os.PathLike)):
        path = os.fspath(value)
        return Item(own_id or storable_text(Path(path).as_posix()), partial(read_file, path), None, None, *facts(path))
    if kind.has_arrays and isinstance(value, Image.Image):
        return _image(value, own_id, position)
    if kind.has_arrays and (isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "tobytes")):
        return Item(own_id or f"array:{content_digest(value)[:32]}", lambda: value)
    raise SourceError(f"item {position} is a {type(value).__name__}; expected {kind.expected}")


def _image(image: Image.Image, own_id: str | None, position: int) -> Item:
    """Return an image as an item; one that Pillow only opened is read here, or by the first thread that needs it."""
    read = partial(_loaded, image, Lock())
    try:
        return Item(own_id or f"array:{content_digest(read())[:32]}", read)
    except DecodeError:  # the failure of one item, when its turn comes
        return Item(f"image:{position}", read)


def _loaded(image: Image.Image, lock: Lock) -> Image.Image:
    """Return an image that several threads may look at: Pillow reads pixels and EXIF data when they are asked for."""
    try:
        with lock:
            image.load()
            image.getexif()
    except Exception as error:  # a damaged file ends in errors of many kinds
        raise DecodeError(f"{type(error).__name__}: {error}") from error
    return image


def _check_is_sequence(items: Any, kind: ItemKind) -> None:
    """Refuse what is one item, a table, or without an order."""
    name = type(items).__name__
    if isinstance(items, np.ndarray) and kind.is_single_item(items):
        raise SourceError(f"an array of shape {items.shape} is one image; expected a sequence: put it into a list")
    if isinstance(items, Mapping) or hasattr(items, "columns"):
        raise SourceError(f"a {name} is no sequence of items; pass one of its columns or values")
    if isinstance(items, Set):
        raise SourceError(f"a {name} has no order that stays; expected a sequence: sort it into a list")
    try:
        iter(items)
    except TypeError as error:
        raise SourceError(
            f"a {name} is no sequence of items; put it into a list, or give a folder, file or URL"
        ) from error


def _one_each(what: str, values: Iterable[Any] | None, count: int) -> list[Any] | None:
    found = None if values is None else list(values)
    if found is not None and len(found) != count:
        raise SourceError(f"{count} items but {len(found)} {what}s; expected one {what} for each item")
    return found


def _checked_ids(values: Iterable[Any]) -> list[str]:
    """Return ids as texts; the first that is empty or equal to another is refused."""
    first: dict[str, int] = {}
    for position, value in enumerate(values):
        identifier = "" if _is_missing(value) else storable_text(str(value))
        if not identifier:
            raise SourceError(f"ids[{position}] is empty; expected a text, or what has one, for each item")
        if identifier in first:
            raise SourceError(
                f"ids[{position}] is {identifier!r}, which is ids[{first[identifier]}] already; expected each id once"
            )
        first[identifier] = position
    return list(first)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)  # NaN is not equal to itself
