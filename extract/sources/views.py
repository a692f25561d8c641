"""Augmented versions of a source's training images, as additional items."""

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

VIEW_ID_ENDING = re.compile(r"@\d+(#\d+)?$")
"""Ending of the ids that a view could have."""


class ViewedSource:
    """The items of a source, each one that may be trained on followed by its views.

    An item is trained on if its split is "train" or unknown. View ``n`` of item ``a`` is the item ``a@n`` (or
    ``a@n#2``, where the source has an ``a@n`` of its own), with the label, the split, the size and the time of ``a``;
    its group is ``a``, and its content a :class:`~topwork.extract.sources.item.View`. The kind is by default that of
    the source. Raise an InputError if `views` is negative or no integer, or if it is not 0 and the source is not of
    images or sounds.
    """

    def __init__(self, source: Source, views: int, kind: str | None = None) -> None:
        kind = str(kind or getattr(source, "kind", "image"))
        require_views(views)
        if views and not ITEM_KINDS[kind].has_views:
            raise InputError(
                f"views={views}: images and sounds have views, but this backbone expects {kind} input; leave it out"
            )
        self.source: Source = source
        self.views: int = int(views)
        self.kind = kind

    @property
    def ignored(self) -> int:
        """Number of files that are of another kind and were left out."""
        return self.source.ignored

    def __len__(self) -> int:
        """Return the number of items, views included; to count the training images, the source is read once."""
        n_items = len(self.source)
        if self.views:
            n_training_images, _ = self._survey
            n_items += self.views * n_training_images
        return n_items

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in the source's order, each followed by its views."""
        if not self.views:
            yield from self.source
            return
        _, taken_ids = self._survey
        unique = UniqueIds()
        for identifier in sorted(taken_ids):
            unique(identifier)
        for item in self.source:
            yield item
            if not _is_trained_on(item):
                continue
            for number in range(1, self.views + 1):
                identifier = f"{item.id}@{number}"
                if identifier in taken_ids:
                    identifier = unique(identifier)
                yield replace(item, id=identifier, read=partial(_read_view, item.read, number), group=item.id)

    @cached_property
    def _survey(self) -> tuple[int, set[str]]:
        """Number of images that have views, and the ids of items that look like those of views."""
        n_training_images = 0
        taken_ids = set()
        for item in self.source:
            n_training_images += _is_trained_on(item)
            if VIEW_ID_ENDING.search(item.id):
                taken_ids.add(item.id)
        return n_training_images, taken_ids


def require_views(views: Any) -> None:
    """Raise an InputError if a value is no number of views."""
    if isinstance(views, bool) or not isinstance(views, Integral) or views < 0:
        raise InputError(f"views={views!r}: expected the number of views of each image to make, 0 or more")


def _is_trained_on(item: Item) -> bool:
    return item.split in (None, "train")


def _read_view(read: Callable[[], Any], number: int) -> View:
    return View(read(), number)
