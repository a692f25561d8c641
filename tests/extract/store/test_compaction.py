"""A merged part: plain ``.npy`` files in row order, sums of their blocks, links where nothing changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from topwork.extract.store import compaction
from topwork.extract.store.block_matrix import BlockMatrix
from topwork.extract.store.compaction import damaged_rows, write_compacted
from topwork.extract.store.conversion import segment_of
from topwork.extract.store.part import Row, table_of
from topwork.models.weights import digest_of_file

ROWS = 10
MATRIX = np.random.default_rng(0).standard_normal((ROWS, 3)).astype(np.float32)
ITEMS = segment_of(table_of([Row(f"{n}", f"{n:064x}", "ok", row=n) for n in range(ROWS)]), 1).settled()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "BLOCK_ROWS", 4)


def block_matrix(matrix: np.ndarray) -> BlockMatrix:
    part = np.zeros(len(matrix), np.int32)
    return BlockMatrix(lambda _: matrix, part, np.arange(len(matrix), dtype=np.int32), 3, matrix.dtype)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2"])
def test_numpy_maps_the_file(dtype: str, tmp_path: Path) -> None:
    digests = write_compacted(tmp_path / "p", ITEMS, {"c1": block_matrix(MATRIX.astype(dtype))}, {})
    plain = np.load(tmp_path / "p" / "c1.npy", mmap_mode="r")
    np.testing.assert_array_equal(plain, MATRIX.astype(dtype))
    assert (plain.dtype.byteorder in "<=", plain.flags.c_contiguous) == (True, True)
    assert digests == {path.name: digest_of_file(path) for path in (tmp_path / "p").iterdir()}


@pytest.mark.parametrize(("row", "block"), [(0, range(4)), (5, range(4, 8)), (9, range(8, 10))])
def test_sums_tell_the_block_that_is_damaged(row: int, block: range, tmp_path: Path) -> None:
    write_compacted(tmp_path / "p", ITEMS, {"c1": block_matrix(MATRIX)}, {})
    matrix = np.load(tmp_path / "p" / "c1.npy")
    assert damaged_rows(tmp_path / "p", "c1", matrix).tolist() == []
    matrix[row, 1] += 1
    assert damaged_rows(tmp_path / "p", "c1", matrix).tolist() == list(block)


@pytest.mark.parametrize("has_links", [True, False])
def test_column_that_is_in_order_is_not_written_again(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_compacted(tmp_path / "p", ITEMS, {"c1": block_matrix(MATRIX)}, {})
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError))
    whole, both = tmp_path / "p" / "c1.npy", {"c1": block_matrix(MATRIX), "c2": block_matrix(-MATRIX)}
    digests = write_compacted(tmp_path / "q", ITEMS, both, {"c1": whole})
    assert whole.samefile(tmp_path / "q" / "c1.npy") == has_links
    assert sorted(digests) == ["blocks.json", "c2.npy", "items.parquet"]
    for name, expected in (("c1", MATRIX), ("c2", -MATRIX)):
        matrix = np.load(tmp_path / "q" / f"{name}.npy")
        np.testing.assert_array_equal(matrix, expected)
        assert not len(damaged_rows(tmp_path / "q", name, matrix))
