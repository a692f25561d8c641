"""Which items of a source have to be computed, given what a store has of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import DecodeError
from .item import Item, content_digest

if TYPE_CHECKING:
    from .sources.opening import Source
    from .store.index import Index
    from .store.part import Row


class Pending:
    """The state of a source's items in a store, and which of them have changed since.

    Parameters
    ----------
    index : Index
        Of the store.

    Attributes
    ----------
    changed : set of str
        Known items with new content that is not computed yet.
    outdated : set of str
        Known items whose features in the store were those of other content when the job began.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self.changed: set[str] = set()
        self.outdated: set[str] = set()

    def is_all_done(self, items: Source) -> bool:
        """Tell whether the store has every item, unchanged; contents are looked at only if no item is new."""
        suspects = []
        for item in items:
            known = self.index.find(item.id)
            if known is None:
                return False
            if not _looks_unchanged(item, known):
                suspects.append((item, known))
        self._compare(suspects)
        return not self.changed

    def look_again(self, items: Iterable[Item], index: Index) -> None:
        """Find the known items whose content is not what the store has: their features are of no use any more."""
        self.index = index
        if index.counts():
            found = ((item, index.find(item.id)) for item in items)
            self._compare((item, known) for item, known in found if known is not None)

    def _compare(self, items: Iterable[tuple[Item, Row]]) -> None:
        """Find which known items have changed."""
        self.changed = {item.id for item, known in items if not _is_unchanged(item, known)}
        self.outdated = set(self.changed)

    def known(self, item_id: str) -> Row | None:
        """Return what the store has of an item, None if it is to be computed."""
        return None if item_id in self.changed else self.index.find(item_id)


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
