"""Which items of a source have to be computed, given what a store has of them."""

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

AT_ONCE, FILES_AT_ONCE = 16, 4096
"""Items that are taken from the source at once: some sources hold the content of what they yield, but not of files."""


class Pending:
    """The state of a source's items in a store, and which of them have changed since.

    Parameters
    ----------
    index : Index
        Of the store.
    retry : bool
        Whether items that failed are to be tried again.

    Attributes
    ----------
    changed : set of str
        Known items with new content that is not computed yet.
    outdated : set of str
        Known items whose features in the store are those of other content.
    known : int
        How many items the store had when they were last compared.
    relabelled : dict
        Known items for which the source names another label or split than it did, with both.
    """

    def __init__(self, index: Index, retry: bool = False) -> None:
        self.index, self.retry = index, retry
        self.relabelled: dict[str, tuple[str | None, str | None]] = {}
        self.changed: set[str] = set()
        self.outdated: set[str] = set()
        self.known = 0

    def is_all_done(self, items: Source, ends: Ledger) -> bool:
        """Tell whether the store has every item, unchanged; contents are looked at only if no item is new.

        Parameters
        ----------
        items : Source
        ends : Ledger
            How each item ended is entered here, as far as they are looked at.
        """
        is_sure = True
        for item, known in self._looked_up(items):
            if known is None or self._is_open(known):
                return False
            ends.count(item.id, known.status, known.reason)
            is_sure = is_sure and _looks_unchanged(item, known)
        if not is_sure:
            self.look_again(items, self.index)  # from the start: a source may hold the content of what it yields
        return not self.changed

    def look_again(self, items: Iterable[Item], index: Index) -> None:
        """Find the known items whose content is not what the store has: their features are of no use any more."""
        self.index = index
        if index.counts():
            self._compare(self._known(items))

    def paired(self, items: Iterable[Item]) -> Iterator[tuple[Item, Row | None]]:
        """Yield items with what the store has of them, None if they are to be computed."""
        for item, known in self._looked_up(items):
            is_open = known is None or item.id in self.changed or self._is_open(known)
            yield item, None if is_open else known

    def _is_open(self, known: Row) -> bool:
        """Tell whether an item that the store knows has to be computed all the same."""
        return known.status == "pending" or (self.retry and known.status == "failed")

    def _known(self, items: Iterable[Item]) -> Iterator[tuple[Item, Row]]:
        self.known = 0
        for item, known in self._looked_up(items):
            if known is not None:
                self.known += 1
                yield item, known

    def _looked_up(self, items: Iterable[Item]) -> Iterator[tuple[Item, Row | None]]:
        for some in taken_together(items):
            found = self.index.find([item.id for item in some])
            for item in some:
                known = found.get(item.id)
                if known is not None:
                    self._compare_labels(item, known)
                yield item, known

    def _compare_labels(self, item: Item, known: Row) -> None:
        new = item.label or known.label, item.split or known.split
        if new != (known.label, known.split):
            self.relabelled[item.id] = new

    def _compare(self, items: Iterable[tuple[Item, Row]]) -> None:
        """Find which known items have changed."""
        self.changed = {item.id for item, known in items if not _is_unchanged(item, known)}
        self.outdated = set(self.changed)


def taken_together(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield items in groups that may be held in memory."""
    source = iter(items)
    for first in source:
        yield [first, *islice(source, (AT_ONCE if first.mtime_ns is None else FILES_AT_ONCE) - 1)]


def _looks_unchanged(item: Item, known: Row) -> bool:
    """Compare size and modification time, if there is one."""
    return item.mtime_ns is not None and (item.size, item.mtime_ns) == (known.size, known.mtime_ns)


def _is_unchanged(item: Item, known: Row) -> bool:
    """Compare size and modification time; if they differ, or there is no time, the content decides."""
    if _looks_unchanged(item, known):
        return True
    try:
        return content_digest(item.read()) == known.digest
    except DecodeError:  # as an empty cell of a table: it failed before, and would again
        return known.status == "failed"
    except OSError:
        return False
