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

NUMBER_RANGE = re.compile(r"(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})(?:\.\.(-?[0-9]{1,18}))?")
LETTER_RANGE = re.compile(r"([A-Za-z])\.\.([A-Za-z])")
MAX_RANGE_NAMES = 1_000_000
"""Names that one range may stand for; a typing error would fill the memory."""


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
    if is_url(source):
        require_no_wildcards(source)
        return names
    if not any(glob.has_magic(name) for name in names):
        return names
    found = []
    for name in names:
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            raise SourceError(f"source {name}: no file or folder matches this pattern; check its spelling")
        found.extend(matches)
    return found


def require_no_wildcards(url: str) -> None:
    """Raise a SourceError for a URL with an asterisk, which only folders on disk expand."""
    if "*" in url:
        raise SourceError(
            f"source {url}: * is not expanded in URLs; expected the URL of a folder, a range such as "
            "part-{000..099}.parquet, or several URLs one after the other"
        )


def expand_braces(text: str) -> list[str]:
    """Return the texts that braces stand for, as in bash: ``{a,b}``, ``{1..3}``, ``{10..08}``, ``{a..e}``."""
    start = text.find("{")
    if start < 0:
        return [text]
    parts, end = split_braces(text, start)
    if len(parts) == 1:
        alternatives = expand_range(parts[0])
    else:
        alternatives = [expanded for part in parts for expanded in expand_braces(part)]
    if not alternatives:  # braces that are part of a name
        end = start
        alternatives = ["{"]
    return [f"{text[:start]}{part}{rest}" for part in alternatives for rest in expand_braces(text[end + 1 :])]


def split_braces(text: str, start: int) -> tuple[list[str], int]:
    """Return the parts between commas of the braces that open at a position, and where they close.

    There are no parts if they do not close.
    """
    parts = []
    depth = 0
    part_start = start + 1
    for position in range(start, len(text)):
        letter = text[position]
        depth += (letter == "{") - (letter == "}")
        is_end = depth == 0
        if is_end or (letter == "," and depth == 1):
            parts.append(text[part_start:position])
            part_start = position + 1
        if is_end:
            return parts, position
    return [], start


def expand_range(text: str) -> list[str]:
    """Return the numbers or letters of a range, which may count down; none for any other text."""
    letters = LETTER_RANGE.fullmatch(text)
    if letters is not None:
        return [chr(code) for code in count_between(ord(letters[1]), ord(letters[2]))]
    numbers = NUMBER_RANGE.fullmatch(text)
    if numbers is None:
        return []
    first, last, step = numbers.groups()
    values = count_between(int(first), int(last), abs(int(step or 1)) or 1)
    if len(values) > MAX_RANGE_NAMES:
        raise SourceError(f"{{{text}}} stands for {len(values):,} names; expected at most {MAX_RANGE_NAMES:,}")
    width = find_width(first, last)
    return [str(value).zfill(width) for value in values]


def find_width(first: str, last: str) -> int:
    """Return the digits of each number of a range: as many as the longer bound has if one begins with zeros."""
    has_zeros = any(re.match("-?0[0-9]", bound) for bound in (first, last))
    return max(len(first), len(last)) if has_zeros else 0


def count_between(first: int, last: int, step: int = 1) -> range:
    """Return the numbers from one to another, both included, up or down."""
    if first <= last:
        return range(first, last + 1, step)
    return range(first, last - 1, -step)
