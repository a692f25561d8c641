"""Augmented versions of a source's training images, as items beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from numbers import Integral
from typing import Any

from ...errors import InputError
from .identifiers import UniqueIds
from .item import Item, Source, View
from .item_kinds import ITEM_KINDS

LIKE_A_VIEW = re.compile(r"@\d+(#\d+)?$")
"""Ends of ids that a view could have."""


class ViewedSource:
    """The items of a source, each image that may be trained on followed by its views.

    An image is trained on if its split is "train" or unknown. View ``n`` of item ``a`` is the item ``a@n`` (or
    ``a@n#2``, where the source has an ``a@n`` of its own), with the label, the split and the file's facts of ``a``;
    its group is ``a``, and its content a :class:`~topwork.extract.sources.item.View`.

    Parameters
    ----------
    source : Source
        Of images.
    views : int
        How many of each image; 0 for none.
    kind : {"image", "text", "tensor"}, optional
        What the backbone eats; by default what the source says of itself.

    Raises
    ------
    InputError
        If the source is not of images, or `views` is no number of views.
    """

    def __init__(self, source: Source, views: int, kind: str | None = None) -> None:
        kind = str(kind or getattr(source, "kind", "image"))
        require_views(views)
        if views and not ITEM_KINDS[kind].has_views:
            raise InputError(
                f"views={views}: only images have views, and this backbone expects {kind} input; leave views out"
            )
        self.source: Source = source
        self.views: int = int(views)
        self.kind = kind

    @property
    def ignored(self) -> int:
        """Number of files that are of another kind and were left out."""
        return self.source.ignored

    def __len__(self) -> int:
        """Return the number of items, views included; to know the splits, the source is gone through once."""
        return len(self.source) + self.views * (self._survey[0] if self.views else 0)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in the source's order, each followed by its views."""
        if not self.views:
            yield from self.source
            return
        taken = self._survey[1]
        unique = UniqueIds()
        for identifier in sorted(taken):
            unique(identifier)
        for item in self.source:
            yield item
            for number in range(1, self.views + 1) if _is_trained_on(item) else ():
                identifier = f"{item.id}@{number}"
                identifier = unique(identifier) if identifier in taken else identifier
                yield replace(item, id=identifier, read=partial(_view, item.read, number), group=item.id)

    @cached_property
    def _survey(self) -> tuple[int, set[str]]:
        """How many items have views, and which items have ids like those of views."""
        trained_on, taken = 0, set()
        for item in self.source:
            trained_on += _is_trained_on(item)
            if LIKE_A_VIEW.search(item.id):
                taken.add(item.id)
        return trained_on, taken


def require_views(views: Any) -> None:
    """Raise an error if it is no number of views."""
    if isinstance(views, bool) or not isinstance(views, Integral) or views < 0:
        raise InputError(f"views={views!r}: expected how many views of each image to make, 0 or more")


def _is_trained_on(item: Item) -> bool:
    return item.split in (None, "train")


def _view(read: Callable[[], Any], number: int) -> View:
    return View(read(), number)
