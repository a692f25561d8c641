"""A block matrix answers as the array of its rows would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from topwork import large_arrays
from topwork.extract.store.block_matrix import BlockMatrix
from topwork.heads.parallel import find_memory_map

ROWS = 7
PARTS = [np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(100, 118, dtype=np.float32).reshape(6, 3)]


def block_matrix() -> tuple[BlockMatrix, np.ndarray]:
    parts, rows = np.array([1, 0, 1, 1, 0, 0, 1]), np.array([5, 3, 0, 0, 2, 1, 4])
    whole = np.stack([PARTS[part][row] for part, row in zip(parts, rows, strict=True)])
    return BlockMatrix(PARTS.__getitem__, parts, rows, 3, np.float32), whole


keys = st.one_of(
    st.integers(-ROWS, ROWS - 1),
    st.slices(ROWS),
    st.lists(st.integers(-ROWS, ROWS - 1)).map(lambda rows: np.array(rows, np.intp)),
    hnp.arrays(bool, ROWS),
    st.tuples(st.slices(ROWS), st.slices(3)),
    st.tuples(st.integers(0, ROWS - 1), st.integers(0, 2)),
    st.just(Ellipsis),
)


@given(key=keys)
def test_it_is_indexed_like_an_array(key: Any) -> None:
    matrix, whole = block_matrix()
    np.testing.assert_array_equal(matrix[key], whole[key])
    assert np.shape(matrix[key]) == np.shape(whole[key])


def test_it_is_gone_through_and_becomes_an_array() -> None:
    matrix, whole = block_matrix()
    assert (matrix.shape, len(matrix), matrix.ndim) == ((ROWS, 3), ROWS, 2)
    np.testing.assert_array_equal(list(matrix), whole)
    np.testing.assert_array_equal(np.concatenate(list(matrix.blocks(2))), whole)
    assert np.asarray(matrix, np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.asarray(matrix.take(np.array([6, 0]))), whole[[6, 0]])
    with pytest.raises(ValueError, match="copy"):
        np.array(matrix, copy=False)


@pytest.mark.parametrize("key", [ROWS, -ROWS - 1, (0, 3)])
def test_what_is_not_there_is_an_error(key: Any) -> None:
    matrix, _ = block_matrix()
    with pytest.raises(IndexError):
        matrix[key]


def test_one_without_rows() -> None:
    none = np.empty(0, np.int32)
    matrix = BlockMatrix(PARTS.__getitem__, none, none, 3, np.float16)
    assert (np.asarray(matrix).shape, np.asarray(matrix).dtype, list(matrix)) == ((0, 3), np.float16, [])


def test_an_array_that_does_not_fit_into_memory_is_mapped_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path))
    monkeypatch.setattr(large_arrays, "available_memory", lambda: 100)
    monkeypatch.setattr(large_arrays, "SMALL_BYTES", 30)
    matrix, whole = block_matrix()
    array = np.asarray(matrix)
    np.testing.assert_array_equal(array, whole)
    assert find_memory_map(array) is not None
    assert find_memory_map(matrix[:2]) is None


def test_each_part_is_opened_once() -> None:
    opened: list[int] = []

    def open_part(number: int) -> np.ndarray:
        opened.append(number)
        return PARTS[number]

    generator = np.random.default_rng(0)
    parts = generator.integers(0, 2, 500).astype(np.int32)
    rows = generator.integers(0, 4, 500).astype(np.int32)
    matrix = BlockMatrix(open_part, parts, rows, 3, np.float32)
    np.testing.assert_array_equal(np.asarray(matrix), [PARTS[part][row] for part, row in zip(parts, rows, strict=True)])
    assert opened == [0, 1]
