"""Items, the inputs of a job, and the protocol of the sources that yield them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

ORIENTATION_TAG, UPRIGHT = 0x0112, 1
"""Of EXIF data: which way up an image is."""
AUGMENTATION = "1"
"""Version of :mod:`topwork.extract.preprocess.augment`: part of the digest of every view."""


@dataclass(frozen=True)
class Item:
    """One input.

    Parameters
    ----------
    id : str
        Unique within its source: a path relative to the root, a member's name.
    read : callable
        Returns the content: the bytes of a file, a text, an array, or a PIL image. Called once, on another thread.
    label : str or None
    split : str or None
        "train", "val" or "test", where the source says so.
    size, mtime_ns : int or None
        Of the file, to recognise it unchanged.
    group : str or None
        Of a view the id of the item that it shows.
    """

    id: str
    read: Callable[[], Any]
    label: str | None = None
    split: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    group: str | None = None


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
    """An image that is to be augmented before it enters the network.

    Parameters
    ----------
    content : bytes, ndarray or PIL.Image.Image
        Of the image itself.
    number : int
        Which of its views, from 1 on.
    """

    content: Any
    number: int

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the content's digest, the number, and the version of the augmentation."""
        identity = f"view {self.number} of {content_digest(self.content)}, augmentation {AUGMENTATION}"
        return hashlib.sha256(identity.encode()).hexdigest()


def content_digest(content: Any) -> str:
    """Return the SHA-256 of an item's content: of a file's bytes, of a text's, of an array's or image's pixels.

    What else decides how an image looks (mode, palette, transparency, orientation) is part of it; a plain RGB image has
    the digest of its array. A view has one of its own, which is equal for equal contents and numbers.
    """
    if isinstance(content, View):
        return content.digest
    if isinstance(content, (bytes, str)):
        encoded = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        return hashlib.sha256(encoded).hexdigest()
    pixels = np.asarray(content)
    look = _look(content) if isinstance(content, Image.Image) else ""
    return hashlib.sha256(f"{pixels.dtype}{pixels.shape}{look}".encode() + pixels.tobytes()).hexdigest()


def _look(image: Image.Image) -> str:
    orientation = image.getexif().get(ORIENTATION_TAG, UPRIGHT)
    if image.mode == "RGB" and orientation == UPRIGHT:
        return ""
    return f"{image.mode}{image.getpalette()}{image.info.get('transparency')}{orientation}"
