"""Items given from Python: paths, arrays, PIL images, strings."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from ...errors import DecodeError, SourceError, reason
from .file import file_item
from .identifiers import UniqueIds, storable_text
from .item import Item, content_id
from .item_kinds import ITEM_KINDS, ItemKind
from .label_sets import join_labels, require_single_label
from .sound import Clip, as_sound, is_decoder
from .url import is_url, url_item


class SequenceSource:
    """A sequence of items, in its own order; what can be iterated over only once is kept.

    Items are paths and URLs; the bytes of files, or open files; uint8 arrays ``(height, width[, 3])`` or PIL images;
    text; or arrays of numbers. A string
    is an item itself where text input is expected, and a path or URL otherwise. By default a path is its own id, and
    any other item has an id made from its content's digest. Raise a SourceError if it is no sequence of items, labels
    or ids do not fit it, or two ids are equal as text.
    """

    ignored = 0

    def __init__(
        self, items: Any, labels: Iterable[Any] | None = None, kind: str = "image", ids: Iterable[Any] | None = None
    ) -> None:
        self.kind = kind
        check_is_sequence(items, ITEM_KINDS[kind])
        self.items = [read_stream(item, position) for position, item in enumerate(items)]
        self.labels = _one_for_each("label", labels, len(self.items))
        own_ids = _one_for_each("id", ids, len(self.items))
        self.ids = None if own_ids is None else unique_texts(own_ids)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in their order."""
        unique = UniqueIds()
        kind = ITEM_KINDS[self.kind]
        own_ids = self.ids or itertools.repeat(None)
        labels = self.labels or itertools.repeat(None)
        for position, (value, own_id, label) in enumerate(zip(self.items, own_ids, labels, strict=False)):
            item = make_item(value, own_id, position=position, kind=kind)
            item = replace(item, id=unique(own_id or item.id))
            if not _is_missing(label):
                item = replace(item, label=format_label(label))
            yield item


def format_label(label: Any) -> str:
    """Return a label as text; a list, set or array of names is several labels."""
    if isinstance(label, (list, Set, np.ndarray)):
        return join_labels(label)
    return require_single_label(storable_text(str(label)))


def make_item(value: Any, own_id: str | None, *, position: int, kind: ItemKind) -> Item:
    """Return a value as an item; `own_id`, where the user gave ids, saves the digest of its content."""
    if kind.has_strings and isinstance(value, str):
        return Item(own_id or content_id("text", value), lambda: value)
    if isinstance(value, (str, os.PathLike)):
        return location_item(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        content = bytes(value)
        return Item(own_id or content_id("bytes", content), lambda: content)
    if kind.has_arrays and isinstance(value, Image.Image):
        return image_item(value, own_id, position)
    if kind.has_sounds and (isinstance(value, (tuple, list, Mapping, Clip)) or is_decoder(value)):
        return sound_item(value, own_id, position)
    is_array = isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "tobytes")
    if kind.has_arrays and is_array:
        return Item(own_id or content_id("array", value), lambda: value)
    raise SourceError(f"item {position} is a {type(value).__name__}; expected {kind.expected}")


def sound_item(value: Any, own_id: str | None, position: int) -> Item:
    """Return samples with their rate as an item; what they lack is the failure of one item, when it is read.

    A decoder with an id is asked for its samples then.
    """
    if own_id and is_decoder(value):
        return Item(own_id, partial(as_sound, value))
    try:
        clip = as_sound(value)
    except DecodeError:
        return Item(own_id or f"audio:{position}", partial(as_sound, value))
    return Item(own_id or content_id("audio", clip), lambda: clip)


def is_stream(value: Any) -> bool:
    """Return whether a value is an open file, such as a ``BytesIO``."""
    return callable(getattr(value, "read", None)) and not isinstance(value, (os.PathLike, Image.Image))


def read_stream(value: Any, position: int) -> Any:
    """Return the bytes of an open file from its place on, and go back to this place; any other value unchanged."""
    if not is_stream(value):
        return value
    name = f"item {position} is a {type(value).__name__}"
    start = find_place(value)
    try:
        content = value.read()
        if start is not None:
            value.seek(start)
    except Exception as error:  # closed, not readable, or an error of its own
        raise SourceError(f"{name} that cannot be read: {reason(error)}; open it again, or pass its bytes") from error
    if not isinstance(content, bytes):
        raise SourceError(f"{name} that yields {type(content).__name__}; expected a file of bytes, opened with 'rb'")
    if not content and start:
        raise SourceError(f"{name} that has been read or written to its end; call seek(0) on it, or pass its bytes")
    return content


def find_place(stream: Any) -> int | None:
    """Return the place of an open file at which it can be read again; None for a connection, which has none."""
    try:
        return int(stream.tell()) if stream.seekable() else None
    except Exception:  # closed, or without these methods
        return None


def location_item(location: str | os.PathLike[str]) -> Item:
    """Return the file at a path or URL as an item."""
    if is_url(location):
        return url_item(str(location))
    path = os.fspath(location)
    return file_item(storable_text(Path(path).as_posix()), path)


def image_item(image: Image.Image, own_id: str | None, position: int) -> Item:
    """Return an image as an item; one that Pillow only opened is read here, or by the first thread that needs it."""
    read = partial(load_image, image, Lock())
    if own_id:
        return Item(own_id, read)
    try:
        return Item(content_id("array", read()), read)
    except DecodeError:  # the failure of one item, when it is read
        return Item(f"image:{position}", read)


def load_image(image: Image.Image, lock: Lock) -> Image.Image:
    """Return an image that several threads may use: Pillow reads pixels and EXIF data when they are needed."""
    try:
        with lock:
            image.load()
            image.getexif()
    except Exception as error:  # a damaged file ends in errors of many kinds
        raise DecodeError(f"{type(error).__name__}: {error}") from error
    return image


def check_is_sequence(items: Any, kind: ItemKind) -> None:
    """Raise a SourceError for one item, for a table, and for a collection without an order."""
    name = type(items).__name__
    if isinstance(items, np.ndarray) and kind.is_single_item(items):
        raise SourceError(f"an array of shape {items.shape} is one image; expected a sequence: put it into a list")
    if isinstance(items, io.TextIOBase):
        raise SourceError(
            f"a {name} is a file of text; expected a sequence: pass a list of its lines without their ends"
        )
    if isinstance(items, (bytes, bytearray, memoryview)) or is_stream(items):
        raise SourceError(f"a {name} is the content of one item; expected a sequence: put it into a list")
    if isinstance(items, Mapping) or hasattr(items, "columns"):
        raise SourceError(f"a {name} is no sequence of items; pass one of its columns or values")
    if isinstance(items, Set):
        raise SourceError(f"a {name} has no fixed order; expected a sequence: sort it into a list")
    try:
        iter(items)
    except TypeError as error:
        raise SourceError(
            f"a {name} is no sequence of items; put it into a list, or give a folder, file or URL"
        ) from error


def _one_for_each(what: str, values: Iterable[Any] | None, n_items: int) -> list[Any] | None:
    """Return labels or ids as a list; None where there are none."""
    if values is None:
        return None
    listed = list(values)
    if len(listed) != n_items:
        raise SourceError(f"{n_items} items but {len(listed)} {what}s; expected one {what} for each item")
    return listed


def unique_texts(ids: Iterable[Any]) -> list[str]:
    """Return ids as text; raise a SourceError for the first that is empty or equal to another."""
    position_of: dict[str, int] = {}
    for position, value in enumerate(ids):
        identifier = "" if _is_missing(value) else storable_text(str(value))
        if not identifier:
            raise SourceError(f"ids[{position}] is empty; expected a text, or a value that has one, for each item")
        first = position_of.setdefault(identifier, position)
        if first != position:
            raise SourceError(f"ids[{position}] is {identifier!r}, like ids[{first}]; expected each id once")
    return list(position_of)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)  # NaN is not equal to itself
