"""Some of the items of a source, by their splits; or all of them without their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from ...errors import InputError
from .item import Item, Source
from .path_labels import name_split


class SelectedSource:
    """The items of a source at some positions, in ascending order."""

    def __init__(self, source: Source, positions: Sequence[int]) -> None:
        self.source = source
        self._positions = frozenset(positions)

    @property
    def positions(self) -> list[int]:
        """The positions, ascending."""
        return sorted(self._positions)

    @property
    def ignored(self) -> int:
        """Number of files of the source that are of another kind."""
        return self.source.ignored

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._positions)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, in the order of the source."""
        for position, item in enumerate(self.source):
            if position in self._positions:
                yield item


class ShareSource:
    """One of several shares of a source: consecutive items, as many as in any other share, or one more."""

    def __init__(self, source: Source, number: int, count: int) -> None:
        self.source = source
        total = len(source)
        self.start = total * number // count
        self.stop = total * (number + 1) // count

    @property
    def ignored(self) -> int:
        """Number of files of the whole source that are of another kind."""
        return self.source.ignored

    def __len__(self) -> int:
        """Return the number of items."""
        return self.stop - self.start

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, in the order of the source."""
        return islice(iter(self.source), self.start, self.stop)


class UnlabelledSource:
    """The items of a source, whose labels are not looked at."""

    def __init__(self, source: Source) -> None:
        self.source = source

    @property
    def ignored(self) -> int:
        """Number of files of the source that are of another kind."""
        return self.source.ignored

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.source)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, in the order of the source."""
        for item in self.source:
            yield replace(item, label=None)


def select_source(source: Source, splits: str | Sequence[str] | None) -> Source:
    """Return the items of some splits of a source; all of them for None."""
    if splits is None:
        return source
    return SelectedSource(source, find_rows([item.split for item in source], splits))


def find_rows(known: Sequence[str | None], splits: str | Sequence[str]) -> list[int]:
    """Return the positions of the items of some splits, given the split of each.

    Raise an InputError if there are none of a split.
    """
    wanted = [name_split(name) for name in ([splits] if isinstance(splits, str) else splits)]
    missing = [name for name in wanted if name not in known]
    if missing or not wanted:
        existing = ", ".join(sorted({split for split in known if split is not None}))
        remedy = f"expected one of {existing}" if existing else "the items have no splits: leave the split out"
        raise InputError(f"no item has the split {', '.join(missing)!r}; {remedy}")
    return [position for position, split in enumerate(known) if split in wanted]
