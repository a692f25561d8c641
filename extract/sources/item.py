"""Items, the inputs of a job, and the protocol of the sources that yield them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from .sound import Clip

ORIENTATION_TAG = 0x0112
"""EXIF tag of an image's orientation."""
UPRIGHT_ORIENTATION = 1
AUGMENTATION_VERSION = "1"
"""Version of :mod:`topwork.extract.preprocess.augment`: part of the digest of every view."""
ID_DIGEST_LENGTH = 32
"""Hexadecimal digits of a content's digest that serve as its id."""


@dataclass(frozen=True)
class Item:
    """One input; size and time are those of the file, by which it is recognised as unchanged."""

    id: str
    """Unique within its source: a path relative to the root, a member's name."""
    read: Callable[[], Any]
    """Returns the bytes of a file, a text, an array, or a PIL image; called once, on another thread."""
    label: str | None = None
    split: str | None = None
    """"train", "val" or "test", where the source states it."""
    size: int | None = None
    mtime_ns: int | None = None
    group: str | None = None
    """Id of the item that a view shows."""
    held_out_with: str | None = None
    """Name of the group of items that are held out together."""
    weight: str | None = None
    """Weight of the item in training, as its source states it."""
    start: float | None = None
    """Seconds from the start of a sound to that of the window that the item is."""


@runtime_checkable
class Source(Protocol):
    """A sized collection of items, in a fixed order, that can be iterated over several times."""

    @property
    def ignored(self) -> int:
        """Number of files that are of another kind and were left out."""

    def __len__(self) -> int:
        """Return the number of items."""

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, always in the same order."""


@dataclass(frozen=True)
class View:
    """An image or a sound (encoded, an array, PIL's, a clip) that is to be augmented before it enters the model.

    Its number among the item's views counts from 1; the version is that of the augmentation.
    """

    content: Any
    number: int
    version: str = AUGMENTATION_VERSION

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the content's digest, the number, and the version of the augmentation."""
        identity = f"view {self.number} of {content_digest(self.content)}, augmentation {self.version}"
        return hashlib.sha256(identity.encode()).hexdigest()


def content_digest(content: Any) -> str:
    """Return the SHA-256 of an item's content: a file's bytes, a text, a clip, the pixels of an array or image.

    What else decides how an image looks (mode, palette, transparency, orientation) is part of it; a plain RGB image has
    the digest of its array. A view has a digest of its own, which is equal for equal contents and numbers.
    """
    if isinstance(content, (View, Clip)):
        return content.digest
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    if isinstance(content, str):
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
    pixels = np.asarray(content)
    header = f"{pixels.dtype}{pixels.shape}{describe_appearance(content)}"
    return hashlib.sha256(header.encode() + pixels.tobytes()).hexdigest()


def content_id(prefix: str, content: Any) -> str:
    """Return an id for an item that has no name, such as ``text:3a7bd3e2…``."""
    return f"{prefix}:{content_digest(content)[:ID_DIGEST_LENGTH]}"


def describe_appearance(image: Any) -> str:
    """Describe what decides how an image looks beside its pixels; "" for a plain RGB image, and for an array."""
    if not isinstance(image, Image.Image):
        return ""
    orientation = image.getexif().get(ORIENTATION_TAG, UPRIGHT_ORIENTATION)
    if image.mode == "RGB" and orientation == UPRIGHT_ORIENTATION:
        return ""
    return f"{image.mode}{image.getpalette()}{image.info.get('transparency')}{orientation}"
