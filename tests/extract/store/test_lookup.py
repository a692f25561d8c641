"""Look-ups find every place of a hash, also where hashes collide."""

from __future__ import annotations

from zlib import crc32

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from topwork.extract.store.lookup import Lookup, compute_text_hashes
from topwork.extract.store.part import Row, rows_to_table
from topwork.extract.store.segment import Segment

few = hnp.arrays(np.uint32, st.integers(0, 30), elements=st.integers(0, 6))


@given(hashes=few, wanted=few)
def test_all_places_of_a_hash_are_found(hashes: np.ndarray, wanted: np.ndarray) -> None:
    which, places = Lookup.build(hashes).find_candidates(wanted)
    found = sorted(zip(which.tolist(), places.tolist(), strict=True))
    assert found == [(i, j) for i, own in enumerate(wanted) for j, other in enumerate(hashes) if own == other]


def test_places_of_one_hash_ascend() -> None:
    which, places = Lookup.build(np.array([5, 3, 5, 5], np.uint32)).find_candidates(np.array([5], np.uint32))
    assert (which.tolist(), places.tolist()) == ([0, 0, 0], [0, 2, 3])


def test_ids_whose_hashes_collide_are_distinguished() -> None:
    first, second = "plumless", "buckeroo"  # which have one CRC-32
    assert np.unique(compute_text_hashes([first, second], 2)).size == 1
    items = Segment.from_items(rows_to_table([Row(name, "", "failed") for name in (first, "other", second)]), 1)
    assert items.find_places([second, first, "none"]).tolist() == [2, 0, -1]


def test_hashes_are_those_of_utf8() -> None:
    assert compute_text_hashes(["é"], 1)[0] == crc32("é".encode())
