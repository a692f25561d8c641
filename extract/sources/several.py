"""Several sources as one, and the patterns that name them: ``shards/*.parquet``, ``shard-{000..099}.tar``."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import SourceError
from .identifiers import UniqueIds
from .item import Item, Source
from .table import Table
from .url import is_url

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class SourceNames:
    """Sources to be opened one after the other, as a command line names them."""

    names: tuple[str | Path | Table, ...]


class SeveralSources:
    """The items of several sources, one after the other; an id that occurs again is numbered.

    `splits` names the split of the items of each source that do not state their own, None for none.
    """

    def __init__(self, sources: Sequence[Source], splits: Sequence[str | None] | None = None) -> None:
        self.sources = sources
        self.splits = [None] * len(sources) if splits is None else splits

    @property
    def ignored(self) -> int:
        """Number of files of another kind, of all sources."""
        return sum(source.ignored for source in self.sources)

    def __len__(self) -> int:
        """Return the number of items."""
        return sum(len(source) for source in self.sources)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items of the first source, then those of the next."""
        unique = UniqueIds()
        for source, split in zip(self.sources, self.splits, strict=True):
            for item in source:
                yield replace(item, id=unique(item.id), split=item.split or split)


def expand_pattern(source: str) -> list[str]:
    """Return the sources that a text names: itself, or those that its braces and wildcards stand for, sorted.

    Raise a SourceError if wildcards match nothing.

    Examples
    --------
    >>> expand_pattern("shard-{08..10}.tar"), expand_pattern("{train,val}.csv")
    (['shard-08.tar', 'shard-09.tar', 'shard-10.tar'], ['train.csv', 'val.csv'])
    """
    if not is_url(source) and Path(source).exists():
        return [source]
    names = expand_braces(source)
    if is_url(source) or not any(glob.has_magic(name) for name in names):
        return names
    found = []
    for name in names:
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            raise SourceError(f"source {name}: no file or folder matches this pattern")
        found.extend(matches)
    return found


def expand_braces(text: str) -> list[str]:
    """Return the texts that braces stand for, as a shell does: ``{a,b}``, ``{1..3}``, ``{08..10}``."""
    braces = BRACES.search(text)
    if braces is None:
        return [text]
    range_ = RANGE.fullmatch(braces[1])
    parts = braces[1].split(",")
    if range_ is not None:
        first, last = range_.groups()
        parts = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    elif len(parts) == 1:
        return [text]
    before = text[: braces.start()]
    return [f"{before}{part}{rest}" for part in parts for rest in expand_braces(text[braces.end() :])]
