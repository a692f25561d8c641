"""From what the user gave to a source."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import csv, parquet
from topwork.errors import SourceError
from topwork.extract.sources.archive import ArchiveSource
from topwork.extract.sources.folder import FolderSource
from topwork.extract.sources.opening import open_source
from topwork.extract.sources.sequence import SequenceSource
from topwork.extract.sources.table import Table, TableSource
from topwork.models.input_kinds import INPUT_SPECS


def test_a_folder_is_opened_by_its_path(write_images: Callable[..., Path]) -> None:
    root = write_images()
    for given in (root, str(root)):
        source = open_source(given)
        assert isinstance(source, FolderSource)
        assert len(source) == 6


def test_a_list_or_array_is_a_sequence() -> None:
    for given in ([np.zeros((2, 2, 3), np.uint8)], np.zeros((1, 2, 2, 3), np.uint8)):
        source = open_source(given, labels=["cat"])
        assert isinstance(source, SequenceSource)
        assert [item.label for item in source] == ["cat"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "does not exist; expected a folder"),
        ("table.xlsx", "unknown kind"),
        ("empty", r"no image items \(2 other"),
        ("folder.csv", r"no image items \(0 other"),
    ],
)
def test_what_cannot_be_a_source_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "table.xlsx").write_bytes(b"x")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "empty").mkdir()
    for other in ("notes.txt", "series.npy"):
        (tmp_path / "empty" / other).write_bytes(b"x")
    with pytest.raises(SourceError, match=reason):
        open_source(tmp_path / name)


@pytest.mark.parametrize("kind", INPUT_SPECS)
def test_source_without_an_item_says_of_which_kind(kind: str, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_bytes(b"x")
    with pytest.raises(SourceError, match=rf"holds no {kind} items \(1 other files\)"):
        open_source(tmp_path, kind=kind)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("table.csv", "text", TableSource),
        ("table.parquet", "text", TableSource),
        ("rows.npy", "tensor", SequenceSource),
        ("rows.npz", "tensor", SequenceSource),
        ("texts.tar.gz", "text", ArchiveSource),
    ],
)
def test_file_is_opened_by_its_ending(name: str, kind: str, expected: type, tmp_path: Path) -> None:
    columns = pyarrow.table({"text": ["a", "b"]})
    csv.write_csv(columns, tmp_path / "table.csv")
    parquet.write_table(columns, tmp_path / "table.parquet")
    np.save(tmp_path / "rows.npy", np.zeros((2, 3)))
    np.savez(tmp_path / "rows.npz", X=np.zeros((2, 3)))
    with tarfile.open(tmp_path / "texts.tar.gz", "w:gz") as archive:
        for member in ("a.txt", "b.txt"):
            archive.addfile(tarfile.TarInfo(member))
    source = open_source(tmp_path / name, kind=kind)
    assert isinstance(source, expected)
    assert len(source) == len(list(source)) == 2


def test_generator_is_a_sequence_with_ids_and_labels() -> None:
    arrays = (np.full((2, 2, 3), number, np.uint8) for number in range(2))
    source = open_source(arrays, labels=["a", "b"], ids=["x", "y"])
    for _ in range(2):
        assert [(item.id, item.label, item.read()[0, 0, 0]) for item in source] == [("x", "a", 0), ("y", "b", 1)]


def test_ids_are_for_sequences(tmp_path: Path) -> None:
    for source in (tmp_path, str(tmp_path), Table(tmp_path / "a.csv"), "memory://a", SequenceSource(["a"])):
        with pytest.raises(SourceError, match=f"ids .*{type(source).__name__}"):
            open_source(source, ids=["x"])


def test_path_object_is_no_url(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source https:/a\.org/photos does not exist"):
        open_source(Path("https://a.org/photos"))


def test_file_of_a_table_may_be_the_url_of_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "a b.csv").write_text("question,label\none,x\n")
    for url in (f"file://{tmp_path}/a b.csv", (tmp_path / "a b.csv").as_uri()):
        source = open_source(Table(url, text="question"), kind="text")
        assert isinstance(source, TableSource)
        assert [(item.read(), item.label) for item in source] == [("one", "x")]


def test_source_is_taken_as_it_is() -> None:
    source = SequenceSource(["a", "b"], kind="text")
    assert open_source(source, kind="text") is source
