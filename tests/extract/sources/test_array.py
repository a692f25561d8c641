"""Arrays on disk: their rows are items, their labels go along, nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topwork.errors import SourceError
from topwork.extract.sources.array import array_source
from topwork.extract.sources.item import content_digest
from topwork.extract.sources.opening import open_source

SERIES = np.random.default_rng(0).normal(size=(5, 3, 7)).astype(np.float32)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 9, 3), dtype=np.uint8)


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(("kind", "array"), [("tensor", SERIES), ("image", IMAGES)])
def test_rows_of_an_array_are_items(kind: str, array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", array)
    for given in (tmp_path / "rows.npy", str(tmp_path / "rows.npy")):
        source = open_source(given, kind=kind)
        assert (len(source), source.ignored) == (len(array), 0)
        for _ in range(2):
            found = list(source)
            assert [item.id for item in found] == [f"array:{content_digest(row)[:32]}" for row in array]
            assert {(item.label, item.split, item.size, item.mtime_ns) for item in found} == {(None, None, None, None)}
            for item, row in zip(found, array, strict=True):
                np.testing.assert_array_equal(item.read(), row)


@pytest.mark.parametrize("labels", [["a", "b", "a", "b", "c"], [0, 1, 0, 1, 2]], ids=["names", "numbers"])
@pytest.mark.parametrize("compressed", [False, True])
def test_labels_lie_beside_the_rows(labels: list[Any], compressed: bool, tmp_path: Path) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "rows.npz", X=SERIES, y=labels)
    found = list(open_source(tmp_path / "rows.npz", kind="tensor"))
    assert [item.label for item in found] == [str(label) for label in labels]
    np.testing.assert_array_equal(np.stack([item.read() for item in found]), SERIES)


def test_labels_may_be_absent(tmp_path: Path) -> None:
    found = list(open_source(npz(tmp_path / "rows.npz", X=SERIES), kind="tensor"))
    assert [item.label for item in found] == [None] * 5


def test_equal_rows_are_told_apart(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", SERIES[[0, 1, 0]])
    first, other, second = open_source(tmp_path / "rows.npy", kind="tensor")
    assert (second.id, other.id) == (f"{first.id}#2", f"array:{content_digest(SERIES[1])[:32]}")


@pytest.mark.parametrize(("X", "y"), [(SERIES, ["a"]), (SERIES, list("abcdef"))])
def test_as_many_labels_as_rows_are_needed(X: Any, y: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"5 items but {len(y)} labels"):
        open_source(npz(tmp_path / "rows.npz", X=X, y=y), kind="tensor")


def test_array_of_another_name_is_refused_and_those_there_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"rows\.npz .*data, target"):
        open_source(npz(tmp_path / "rows.npz", data=SERIES, target=[0] * 5), kind="tensor")


def test_texts_are_no_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", SERIES)
    with pytest.raises(SourceError, match=r"holds arrays.*text"):
        array_source(tmp_path / "rows.npy", "text")


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["rows.npy", "rows.npz"])
def test_pickled_array_is_refused_without_running_it(name: str, tmp_path: Path) -> None:
    array = np.array([Trap(tmp_path / "ran")], object)
    np.save(tmp_path / name, array, allow_pickle=True) if name == "rows.npy" else npz(tmp_path / name, X=array)
    with pytest.raises(SourceError, match=name):
        open_source(tmp_path / name, kind="tensor")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["rows.npy", "rows.npz"])
@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "cut in the header", "the other kind"])
def test_damaged_file_is_refused_by_name(name: str, damage: str, tmp_path: Path) -> None:
    path, other = tmp_path / name, tmp_path / ("other.npy" if name == "rows.npz" else "other.npz")
    for file in (path, other):
        np.save(file, SERIES) if file.suffix == ".npy" else npz(file, X=SERIES)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"no array at all\n" * 20,
            "truncated": whole[:-30],
            "cut in the header": whole[:60],
            "the other kind": other.read_bytes(),
        }[damage]
    )
    with pytest.raises(SourceError, match=name.replace(".", r"\.")):
        open_source(path, kind="tensor")


@pytest.mark.parametrize("name", ["rows.npy", "rows.npz"])
def test_single_number_has_no_rows(name: str, tmp_path: Path) -> None:
    number = np.float32(3)
    np.save(tmp_path / name, number) if name == "rows.npy" else npz(tmp_path / name, X=number)
    with pytest.raises(SourceError, match=name.replace(".", r"\.")):
        open_source(tmp_path / name, kind="tensor")


def test_array_without_rows_holds_no_items(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", SERIES[:0])
    with pytest.raises(SourceError, match=r"rows\.npy holds no tensor items"):
        open_source(tmp_path / "rows.npy", kind="tensor")
