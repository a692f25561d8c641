"""Parts: written whole, readable without topwork, damage noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from topwork.errors import MissingFileError, StoreDamagedError
from topwork.extract.store.part import ITEMS_FILE, ROW_FIELDS, Row, open_matrix, read_items, rows_to_table, write_part

MATRIX = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
ROWS = [
    Row("cat/1.jpg", "d1", "ok", None, 0, "cat", "train", 100, 1_700_000_000_123_456_789),
    Row("cat/2.jpg", "d1", "duplicate", "cat/1.jpg", 1, "cat", None, 100, 1),
    Row("dog/Grüße.jpg", "", "failed", "FileNotFoundError: gone"),
    Row("dog/3.jpg", "d3", "ok", None, 2, "dog", "val", 2**40, 0, "dog/2.jpg"),
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ANY_ROW = st.builds(
    Row,
    TEXT,
    TEXT,
    st.sampled_from(["ok", "failed", "duplicate", "pending"]),
    *(st.none() | values for values in (TEXT, st.integers(0, 2**31 - 1), TEXT, TEXT)),
    *(st.none() | st.integers(0, 2**63 - 1) for _ in range(2)),
    st.none() | TEXT,
)


def read_rows(folder: Path) -> list[Row]:
    return [Row(**fields) for fields in read_items(folder).select(ROW_FIELDS).to_pylist()]


@pytest.fixture
def part(tmp_path: Path) -> Path:
    write_part(tmp_path / "p000001", rows_to_table(ROWS), {"c0001": MATRIX, "c0002": MATRIX[:, ::2]})
    return tmp_path / "p000001"


def test_rows_and_matrices_come_back(part: Path) -> None:
    assert read_rows(part) == ROWS
    np.testing.assert_array_equal(open_matrix(part, "c0001"), MATRIX)
    np.testing.assert_array_equal(open_matrix(part, "c0002"), MATRIX[:, ::2])
    assert not open_matrix(part, "c0001").flags.writeable
    assert sorted(path.name for path in part.parent.iterdir()) == ["p000001"]


def test_written_files_are_all_named(tmp_path: Path) -> None:
    files = write_part(tmp_path / "p", rows_to_table(ROWS), {"c0001": MATRIX})
    assert set(files) == set((tmp_path / "p").iterdir())


@pytest.mark.parametrize(
    "matrix",
    [MATRIX, np.asfortranarray(MATRIX), MATRIX.astype(">f4"), MATRIX[::-1]],
    ids=["c", "fortran", "big", "view"],
)
def test_numpy_alone_maps_a_matrix_little_endian_and_c_ordered(tmp_path: Path, matrix: np.ndarray) -> None:
    write_part(tmp_path / "p", rows_to_table(ROWS), {"c0001": matrix})
    mapped = np.load(tmp_path / "p" / "c0001.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert (mapped.dtype.str, mapped.flags.c_contiguous) == ("<f4", True)
    np.testing.assert_array_equal(mapped, matrix)


def test_items_are_an_ordinary_parquet_file(part: Path) -> None:
    table = parquet.read_table(part / ITEMS_FILE)
    assert table.column("id").to_pylist() == [row.id for row in ROWS]
    assert table.column("row").to_pylist() == [0, 1, None, 2]


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ANY_ROW, max_size=6))
def test_any_rows_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    folder = tmp_path_factory.mktemp("parts") / "p"
    write_part(folder, rows_to_table(rows), {})
    assert read_rows(folder) == rows


def test_part_is_never_overwritten(part: Path) -> None:
    with pytest.raises(FileExistsError):
        write_part(part, rows_to_table(ROWS[:1]), {})
    assert read_rows(part) == ROWS


@pytest.mark.parametrize("keep", [None, 0, 10, 0.5, -4], ids=["missing", "empty", "header", "half", "end"])
@pytest.mark.parametrize("name", [ITEMS_FILE, "c0001.npy"])
def test_damaged_file_is_named(part: Path, name: str, keep: float | None) -> None:
    content = (part / name).read_bytes()
    if keep is None:
        (part / name).unlink()
    else:
        (part / name).write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(StoreDamagedError, match=rf"{name}.*`topwork store repair`"):
        read_rows(part) if name == ITEMS_FILE else open_matrix(part, "c0001")


def test_missing_permission_differs_from_missing_and_damaged_files(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (part / "c0002.npy").unlink()
    with pytest.raises(MissingFileError, match=r"c0002\.npy"):
        open_matrix(part, "c0002")
    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(StoreDamagedError, match=r"c0001\.npy .*permissions"):
        open_matrix(part, "c0001")


def test_part_of_an_older_version_has_no_groups(part: Path) -> None:
    table = parquet.read_table(part / ITEMS_FILE).drop_columns("group")
    parquet.write_table(table, part / ITEMS_FILE)
    assert [row.group for row in read_rows(part)] == [None] * 4


def test_items_without_a_field_are_refused(part: Path) -> None:
    table = parquet.read_table(part / ITEMS_FILE).drop_columns("digest")
    parquet.write_table(table, part / ITEMS_FILE)
    with pytest.raises(StoreDamagedError, match=r"items\.parquet .*id, status.*digest"):
        read_rows(part)
