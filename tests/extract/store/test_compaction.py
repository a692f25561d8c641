"""A merged part: plain ``.npy`` files in row order, checksums of blocks, links where nothing changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from topwork.extract.store.block_matrix import BlockMatrix
from topwork.extract.store.compaction import find_damaged_rows, write_compacted
from topwork.extract.store.part import Row, rows_to_table
from topwork.extract.store.segment import Segment
from topwork.identity import digest_of_file

ROWS = 10
MATRIX = np.random.default_rng(0).standard_normal((ROWS, 3)).astype(np.float32)
ITEM_ROWS = [Row(f"{n}", f"{n:064x}", "ok", row=n) for n in range(ROWS)]
ITEMS = Segment.from_items(rows_to_table(ITEM_ROWS), 1).settle()


def write_part(
    folder: Path, matrices: dict[str, BlockMatrix], unchanged_files: dict[str, Path] | None = None
) -> dict[str, str]:
    """Write a part with checksums of every four rows."""
    return write_compacted(folder, ITEMS, matrices, unchanged_files or {}, rows_per_checksum=4)


def block_matrix(matrix: np.ndarray) -> BlockMatrix:
    part = np.zeros(len(matrix), np.int32)
    return BlockMatrix(lambda _: matrix, part, np.arange(len(matrix), dtype=np.int32), 3, matrix.dtype)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2"])
def test_numpy_maps_the_file(dtype: str, tmp_path: Path) -> None:
    digests = write_part(tmp_path / "p", {"c1": block_matrix(MATRIX.astype(dtype))})
    plain = np.load(tmp_path / "p" / "c1.npy", mmap_mode="r")
    np.testing.assert_array_equal(plain, MATRIX.astype(dtype))
    assert (plain.dtype.byteorder in "<=", plain.flags.c_contiguous) == (True, True)
    assert digests == {path.name: digest_of_file(path) for path in (tmp_path / "p").iterdir()}


@pytest.mark.parametrize(("row", "block"), [(0, range(4)), (5, range(4, 8)), (9, range(8, 10))])
def test_checksums_locate_the_damaged_block(row: int, block: range, tmp_path: Path) -> None:
    write_part(tmp_path / "p", {"c1": block_matrix(MATRIX)})
    matrix = np.load(tmp_path / "p" / "c1.npy")
    assert find_damaged_rows(tmp_path / "p", "c1", matrix).tolist() == []
    matrix[row, 1] += 1
    assert find_damaged_rows(tmp_path / "p", "c1", matrix).tolist() == list(block)


@pytest.mark.parametrize("has_links", [True, False])
def test_column_in_row_order_is_not_written_again(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_part(tmp_path / "p", {"c1": block_matrix(MATRIX)})
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError))
    whole, both = tmp_path / "p" / "c1.npy", {"c1": block_matrix(MATRIX), "c2": block_matrix(-MATRIX)}
    digests = write_part(tmp_path / "q", both, {"c1": whole})
    assert whole.samefile(tmp_path / "q" / "c1.npy") == has_links
    assert sorted(digests) == ["blocks.json", "c2.npy", "items.parquet"]
    for name, expected in (("c1", MATRIX), ("c2", -MATRIX)):
        matrix = np.load(tmp_path / "q" / f"{name}.npy")
        np.testing.assert_array_equal(matrix, expected)
        assert not len(find_damaged_rows(tmp_path / "q", name, matrix))
