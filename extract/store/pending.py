"""Compare a source with a store: which of its items have to be computed, and which have other labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from ...errors import DecodeError
from ..sources.item import Item, content_digest

if TYPE_CHECKING:
    from ..engine.ledger import Ledger
    from ..sources.item import Source
    from .index import Index
    from .part import Row

CONTENTS_PER_LOOKUP = 16
"""Items that are taken from a source at once if it may hold the content of what it yields."""
FILES_PER_LOOKUP = 4096
"""Items that are taken at once from a source of files, which are read later."""


class Pending:
    """The items of a source compared with those of a store; with `retry`, failed items are computed again.

    With `rehash`, contents are compared also where size and modification time are unchanged; with `recompute`, all
    items are computed again. Items that the store lacks may be known from another one, whose index is `base` and whose
    labels stay as they are.

    Attributes
    ----------
    changed : set of str
        Known items with new content that is not computed yet.
    outdated : set of str
        Known items whose features in the store are those of other content.
    n_known : int
        Number of items that the store had at the last :meth:`find_changed`.
    relabelled : dict
        Label and split of known items for which the source names others than the store has.
    """

    def __init__(
        self,
        index: Index,
        retry: bool = False,
        *,
        rehash: bool = False,
        recompute: bool = False,
        base: Index | None = None,
    ) -> None:
        self.index = index
        self.base = base
        self.retry = retry
        self.rehash = rehash
        self.recompute = recompute
        self.relabelled: dict[str, tuple[str | None, str | None]] = {}
        self.changed: set[str] = set()
        self.outdated: set[str] = set()
        self.n_known = 0

    def is_all_done(self, items: Source, ends: Ledger) -> bool:
        """Return whether the store has every item, unchanged; contents are read only if no item is new.

        The result of each item is counted in `ends`, up to the first that has to be computed.
        """
        is_certain = True
        for item, known in self._look_up(items):
            if known is None or self.recompute or self._has_to_be_computed(known):
                return False
            ends.count(item.id, known.status, known.reason)
            is_certain = is_certain and not self.rehash and has_same_size_and_time(item, known)
        if not is_certain:
            self.find_changed(items, self.index)  # iterates again: a source may hold the content of what it yields
        return not self.changed

    def find_changed(self, items: Iterable[Item], index: Index) -> None:
        """Find the known items whose content differs from that in the store; use this index from now on."""
        self.index = index
        if self.base is None and not index.counts():
            return
        self.n_known = 0
        changed = set()
        for item, known in self._look_up(items):
            if known is None:
                continue
            self.n_known += 1
            if self.recompute or not has_same_content(item, known, rehash=self.rehash):
                changed.add(item.id)
        self.changed = changed
        self.outdated = set(changed)

    def match(self, items: Iterable[Item]) -> Iterator[tuple[Item, Row | None]]:
        """Yield items with their row in the store, None if they have to be computed."""
        for item, known in self._look_up(items):
            if known is None or item.id in self.changed or self._has_to_be_computed(known):
                yield item, None
            else:
                yield item, known

    def _has_to_be_computed(self, known: Row) -> bool:
        return known.status == "pending" or (self.retry and known.status == "failed")

    def _look_up(self, items: Iterable[Item]) -> Iterator[tuple[Item, Row | None]]:
        """Yield items with their row in the store, None if it does not know them; note new labels."""
        for group in group_items(items):
            rows = self.index.find([item.id for item in group])
            base_rows: dict[str, Row] = {}
            if self.base is not None:
                base_rows = self.base.find([item.id for item in group if item.id not in rows])
            for item in group:
                known = rows.get(item.id)
                if known is not None:
                    self.note_labels(item, known)
                yield item, known or base_rows.get(item.id)

    def note_labels(self, item: Item, known: Row) -> None:
        """Note an item whose source names another label or split than the store has."""
        label = item.label or known.label
        split = item.split or known.split
        if (label, split) != (known.label, known.split):
            self.relabelled[item.id] = (label, split)


def group_items(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield items in groups that fit in memory."""
    source = iter(items)
    for first in source:
        size = CONTENTS_PER_LOOKUP if first.mtime_ns is None else FILES_PER_LOOKUP
        yield [first, *islice(source, size - 1)]


def has_same_size_and_time(item: Item, known: Row) -> bool:
    """Return whether size and modification time are as in the store; False if the item has no time."""
    return item.mtime_ns is not None and (item.size, item.mtime_ns) == (known.size, known.mtime_ns)


def has_same_content(item: Item, known: Row, *, rehash: bool = False) -> bool:
    """Return whether an item is unchanged: by size and modification time, or if they differ, by its content.

    With `rehash`, contents are always compared.
    """
    if not rehash and has_same_size_and_time(item, known):
        return True
    try:
        return content_digest(item.read()) == known.digest
    except DecodeError:  # such as an empty cell of a table, which would fail again
        return known.status == "failed"
    except OSError:
        return False
