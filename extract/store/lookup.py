"""Search for many values among many by 32-bit hashes; callers must verify the candidates."""

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
    """Hashes in ascending order with the place of each value; places of equal hashes ascend."""

    hashes: NDArray[np.uint32]
    places: NDArray[np.uint32]

    @classmethod
    def build(cls, hashes: NDArray[np.uint32]) -> Lookup:
        """Sort hashes; the place of each is its position."""
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], order.astype(np.uint32))

    def find_candidates(self, wanted: NDArray[np.uint32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return all pairs of a position in `wanted` and a place with the same hash, as two arrays (n_pairs,).

        The places of one position ascend.
        """
        order = np.argsort(wanted, kind="stable")  # neighbours are found in the same memory pages
        wanted = wanted[order]
        starts = np.searchsorted(self.hashes, wanted)
        counts = count_equal(self.hashes, wanted, starts)
        positions = np.repeat(order, counts)
        # The k-th pair of a position reads the k-th hash from the position's start on.
        pairs_before = np.concatenate([[0], np.cumsum(counts)[:-1]])
        offsets = np.repeat(starts - pairs_before, counts)
        places = self.places[offsets + np.arange(len(positions))]
        return positions, places.astype(np.intp)


def count_equal(hashes: NDArray[np.uint32], wanted: NDArray[np.uint32], starts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return how many hashes from each start on equal the wanted one; rarely more than one."""
    counts = np.zeros(len(wanted), np.intp)
    left = np.arange(len(wanted))
    while len(left):
        left = left[starts[left] + counts[left] < len(hashes)]
        left = left[hashes[starts[left] + counts[left]] == wanted[left]]
        counts[left] += 1
    return counts


def compute_text_hashes(texts: Iterable[str], count: int) -> NDArray[np.uint32]:
    """Return the CRC-32 of the UTF-8 bytes of `count` texts, shape (count,)."""
    return np.fromiter((crc32(text.encode("utf-8", "surrogatepass")) for text in texts), np.uint32, count)


def read_digest_prefixes(digests: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the first four bytes of each digest ``(n, 32)`` as an integer, shape (n,)."""
    return np.ascontiguousarray(digests[:, :4]).view("<u4").reshape(-1)
