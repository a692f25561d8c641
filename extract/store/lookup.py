"""Find many values among many: 32-bit hashes, sorted, with the place of each. Whoever asks compares the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Lookup:
    """Hashes in ascending order, and where the values stand that have them; equal hashes keep the order of places.

    Parameters
    ----------
    hashes : ndarray of uint32, shape (n,)
    places : ndarray of uint32, shape (n,)
    """

    hashes: NDArray[np.uint32]
    places: NDArray[np.uint32]

    @classmethod
    def of(cls, hashes: NDArray[np.uint32]) -> Lookup:
        """Sort hashes; the place of each is its position."""
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], order.astype(np.uint32))

    def candidates(self, wanted: NDArray[np.uint32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return pairs of a position in `wanted` and a place that has the same hash; those of a position ascend."""
        order = np.argsort(wanted, kind="stable")  # neighbours are found in the same pages
        ordered = wanted[order]
        starts = np.searchsorted(self.hashes, ordered)
        counts = self._counts(ordered, starts)
        which = np.repeat(order, counts)
        firsts = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        return which, self.places[firsts + np.arange(len(which))].astype(np.intp)

    def _counts(self, wanted: NDArray[np.uint32], starts: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return how many hashes from each start on are the wanted one; seldom more than one."""
        counts, left = np.zeros(len(wanted), np.intp), np.arange(len(wanted))
        while len(left):
            left = left[starts[left] + counts[left] < len(self.hashes)]
            left = left[self.hashes[starts[left] + counts[left]] == wanted[left]]
            counts[left] += 1
        return counts


def hashes_of(texts: Iterable[str], count: int) -> NDArray[np.uint32]:
    """Return the CRC-32 of texts in UTF-8."""
    return np.fromiter([crc32(text.encode("utf-8", "surrogatepass")) for text in texts], np.uint32, count)


def heads_of(digests: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the first four bytes of each digest ``(n, 32)``."""
    return np.ascontiguousarray(digests[:, :4]).view("<u4").reshape(-1)
