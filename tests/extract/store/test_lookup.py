"""Look-ups find every place of a hash, also where hashes collide."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from topwork.extract.store import lookup
from topwork.extract.store.conversion import segment_of
from topwork.extract.store.lookup import Lookup, hashes_of
from topwork.extract.store.part import Row, table_of

few = hnp.arrays(np.uint32, st.integers(0, 30), elements=st.integers(0, 6))


@given(hashes=few, wanted=few)
def test_all_places_of_a_hash_are_found(hashes: np.ndarray, wanted: np.ndarray) -> None:
    which, places = Lookup.of(hashes).candidates(wanted)
    found = sorted(zip(which.tolist(), places.tolist(), strict=True))
    assert found == [(i, j) for i, own in enumerate(wanted) for j, other in enumerate(hashes) if own == other]


def test_places_of_one_hash_ascend() -> None:
    which, places = Lookup.of(np.array([5, 3, 5, 5], np.uint32)).candidates(np.array([5], np.uint32))
    assert (which.tolist(), places.tolist()) == ([0, 0, 0], [0, 2, 3])


def test_texts_whose_hashes_collide_are_told_apart() -> None:
    first, second = "plumless", "buckeroo"  # which have one CRC-32
    assert np.unique(hashes_of([first, second], 2)).size == 1
    items = segment_of(table_of([Row(name, "", "failed") for name in (first, "other", second)]), 1)
    assert items.places([second, first, "none"]).tolist() == [2, 0, -1]


def test_hashes_are_those_of_utf8() -> None:
    assert hashes_of(["é"], 1)[0] == lookup.crc32("é".encode())
