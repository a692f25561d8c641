"""Features of long sounds: the mean over their windows, which pass the engine one by one."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, cast

import numpy as np

from ...errors import DecodeError
from ..sources.file import FileContent, check_regular
from ..sources.item import Item, content_digest
from ..sources.windows import count_windows, divide, find_length
from .result import Result, Vectors

if TYPE_CHECKING:
    from ...models.audio_spec import AudioSpec
    from ...models.input_spec import InputSpec


@dataclass
class Sum:
    """The windows of one sound so far: their number in all, the sum of their vectors, and what went wrong."""

    item: Item
    digest: str
    n_windows: int
    n_added: int = 0
    vectors: Vectors | None = None
    reason: str | None = None

    def add(self, result: Result) -> None:
        """Add the result of the next window."""
        self.n_added += 1
        if result.vectors is None:
            where = "" if result.item.start is None else f"after {result.item.start:g} s: "
            self.reason = self.reason or f"{where}{result.reason}"
        elif self.vectors is None:
            self.vectors = tuple(vector.astype(np.float64) for vector in result.vectors)
        else:
            self.vectors = tuple(total + vector for total, vector in zip(self.vectors, result.vectors, strict=True))

    def result(self) -> Result:
        """Return the mean over the windows; of a sound with a window that failed its reason."""
        if self.reason is not None or self.vectors is None:
            return Result(self.item, self.digest, reason=self.reason)
        means = tuple((total / self.n_windows).astype(np.float32) for total in self.vectors)
        return Result(self.item, self.digest, vectors=means)


def average_windows(
    items: Iterable[Item], spec: InputSpec, block: int, compute: Callable[[Iterable[Item]], Iterator[Result]]
) -> Iterator[Result]:
    """Yield the results of sounds, given a function that computes those of their windows, in order.

    Blocks of sounds are computed one after the other: a part of a store ends where a block ends, so that a job which
    resumes computes the same batches again.
    """
    remaining = iter(items)
    while True:
        sounds = list(islice(remaining, block))
        if not sounds:
            return
        sums: deque[Sum] = deque()
        for result in compute(iterate_windows_of(sounds, cast("AudioSpec", spec), sums)):
            sums[0].add(result)
            if sums[0].n_added == sums[0].n_windows:
                yield sums.popleft().result()


def iterate_windows_of(sounds: Iterable[Item], spec: AudioSpec, sums: deque[Sum]) -> Iterator[Item]:
    """Yield the windows of sounds, and append a sum for each sound; one that cannot be read is its only window."""
    for sound in sounds:
        length = find_length(sound, spec.rate)
        sums.append(Sum(sound, find_digest(sound), count_windows(length, spec)))
        yield from divide(sound, length, spec)


def find_digest(item: Item) -> str:
    """Return the digest of an item's content, "" if it cannot be read; a file on disk is not held in memory."""
    try:
        if isinstance(item.read, FileContent):
            check_regular(item.read.path)
            with open(item.read.path, "rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        return content_digest(item.read())
    except (OSError, DecodeError):
        return ""
