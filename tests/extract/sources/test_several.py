"""Several sources as one: patterns, shards in a folder, and the table of a folder's files."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from topwork.errors import SourceError
from topwork.extract.sources.opening import open_source
from topwork.extract.sources.several import SourceNames, expand_braces, expand_pattern

WriteImages = Callable[..., Path]


def described(source: Any) -> list[tuple[Any, ...]]:
    return [(item.id, item.label) for item in source]


@pytest.fixture
def shards(write_images: WriteImages, tmp_path: Path) -> Path:
    """Three tables of two images each, and an archive of each class."""
    root = write_images(labels=("cat", "dog"), each=3)
    folder = tmp_path / "shards"
    folder.mkdir()
    paths = sorted(root.rglob("*.png"))
    for number in range(3):
        part = paths[2 * number : 2 * number + 2]
        columns = {"path": list(map(str, part)), "label": [path.parent.name for path in part]}
        parquet.write_table(pyarrow.table(columns), folder / f"part-{number:03d}.parquet")
    for label in ("cat", "dog"):
        with tarfile.open(tmp_path / f"{label}.tar", "w") as archive:
            archive.add(root / label, label)
    return folder


@pytest.mark.parametrize("pattern", ["", "/*.parquet", "/part-{000..002}.parquet", "/part-{000,001,002}.parquet"])
def test_shards_are_one_source_in_the_order_of_their_names(shards: Path, pattern: str) -> None:
    source = open_source(f"{shards}{pattern}")
    assert (len(source), source.ignored) == (6, 0)
    assert [label for _, label in described(source)] == ["cat"] * 3 + ["dog"] * 3
    assert described(source) == described(source)


def test_ids_that_occur_again_are_numbered(shards: Path) -> None:
    first = str(shards / "part-000.parquet")
    ids = [item_id for item_id, _ in described(open_source(SourceNames((first, first))))]
    assert ids[2:] == [f"{item_id}#2" for item_id in ids[:2]]


def test_folder_of_archives(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    for label in ("cat", "dog"):
        (tmp_path / f"{label}.tar").rename(folder / f"{label}.tar")
    assert [label for _, label in described(open_source(folder))] == ["cat"] * 3 + ["dog"] * 3


def test_shards_of_systems_are_left_out(shards: Path) -> None:
    for name in ("__MACOSX/part.parquet", ".trash/part.parquet", "._part-000.parquet"):
        (shards / name).parent.mkdir(exist_ok=True)
        (shards / name).write_bytes(b"no table")
    assert len(open_source(shards)) == 6


@pytest.mark.parametrize("pattern", ["/*.csv", "/part-{005..006}.parquet"])
def test_pattern_without_a_match_is_an_error(shards: Path, pattern: str) -> None:
    with pytest.raises(SourceError):
        open_source(f"{shards}{pattern}")


@pytest.mark.parametrize("name", ["photos [1]", "photos*", "{a,b}", "a{1..2}"])
def test_existing_names_are_no_patterns(write_images: WriteImages, tmp_path: Path, name: str) -> None:
    folder = write_images(each=1).rename(tmp_path / name)
    assert expand_pattern(str(folder)) == [str(folder)]
    assert len(open_source(str(folder))) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a{1..3}", ["a1", "a2", "a3"]),
        ("{08..10}.tar", ["08.tar", "09.tar", "10.tar"]),
        ("{a,b}{1..2}", ["a1", "a2", "b1", "b2"]),
        ("{a}", ["{a}"]),
        ("{}", ["{}"]),
        ("plain", ["plain"]),
        ("{03..01}", ["03", "02", "01"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{9..10}", ["9", "10"]),
        ("{9..010}", ["009", "010"]),
        ("{00..10..5}", ["00", "05", "10"]),
        ("{-1..1}", ["-1", "0", "1"]),
        ("{c..a}{1..2}", ["c1", "c2", "b1", "b2", "a1", "a2"]),
        ("{a,b{1..2},{c,d}}.tar", ["a.tar", "b1.tar", "b2.tar", "c.tar", "d.tar"]),
        ("{a,}x", ["ax", "x"]),
        ("{x{1,2}}", ["{x1}", "{x2}"]),
        ("{a..1}", ["{a..1}"]),
        ("{1,2", ["{1,2"]),
        ("{" * 30 + "}" * 30, ["{" * 30 + "}" * 30]),
    ],
)
def test_braces_are_those_of_a_shell(text: str, expected: list[str]) -> None:
    assert expand_braces(text) == expected


def test_range_of_too_many_names_is_an_error() -> None:
    with pytest.raises(SourceError, match=r"\{0\.\.1000000000\} stands for 1,000,000,001 names"):
        open_source("shard-{0..1000000000}.tar")


def test_range_that_counts_down_opens_the_shards_in_this_order(shards: Path) -> None:
    labels = [label for _, label in described(open_source(f"{shards}/part-{{002..000}}.parquet"))]
    assert labels == ["dog", "dog", "cat", "dog", "cat", "cat"]


@pytest.mark.parametrize("url", ["s3://bucket/shard-*.tar", "https://a.org/{a,b}/*.csv", "memory://*"])
def test_wildcards_in_urls_are_refused_with_a_remedy(url: str) -> None:
    with pytest.raises(SourceError, match=r"\* is not expanded in URLs.*part-\{000\.\.099\}"):
        open_source(url)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_table_of_a_folders_files_names_the_labels(write_images: WriteImages, name: str) -> None:
    root = write_images(labels=("images",), each=2)
    table = root / name
    rows = {"file_name": ["images/0.png", "images/1.png"], "label": ["cat", "dog"]}
    if name == "metadata.csv":
        table.write_text("file_name,label\nimages/0.png,cat\nimages/1.png,dog\n")
    elif name == "metadata.jsonl":
        pairs = zip(rows["file_name"], rows["label"], strict=True)
        table.write_text("".join(json.dumps({"file_name": file, "label": label}) + "\n" for file, label in pairs))
    else:
        parquet.write_table(pyarrow.table(rows), table)
    expected = [("images/0.png", "cat"), ("images/1.png", "dog")]
    assert described(open_source(root)) == described(open_source(table)) == expected


@pytest.mark.parametrize("name", ["store.json", "bundle.json"])
def test_files_named_like_those_of_topwork_do_not_make_a_folder_its_own(write_images: WriteImages, name: str) -> None:
    root = write_images(each=1)
    (root / name).write_text("{}")
    assert len(open_source(root)) == 2


def test_table_of_something_else_does_not_name_labels(write_images: WriteImages) -> None:
    root = write_images(each=1)
    (root / "metadata.csv").write_text("camera,date\nx,2020\n")
    assert [label for _, label in described(open_source(root))] == ["cat", "dog"]


@pytest.mark.parametrize("pattern", ["{train,held_out}.csv", "*.csv"])
def test_names_of_files_are_splits(pattern: str, tmp_path: Path) -> None:
    for name in ("train", "held_out"):
        (tmp_path / f"{name}.csv").write_text("text\na\n")
    items = list(open_source(str(tmp_path / pattern), kind="text"))
    assert sorted(item.split or "" for item in items) == ["holdout", "train"]


@pytest.mark.parametrize("pattern", ["{train,test}/part.csv", "*/part.csv", ""])
def test_names_of_folders_of_files_are_splits(pattern: str, tmp_path: Path) -> None:
    root = tmp_path / "val"  # says nothing, as all files lie in it
    for name in ("train", "test"):
        (root / name).mkdir(parents=True)
        (root / name / "part.csv").write_text("text\na\n")
    items = list(open_source(str(root / pattern), kind="text"))
    assert sorted(item.split or "" for item in items) == ["test", "train"]


def test_folders_state_what_their_table_does_not(write_images: WriteImages) -> None:
    root = write_images("m/train", labels=("ants", "bees")).parent
    write_images("m/test", labels=("ants", "bees"))
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    (root / "metadata.csv").write_text("file_name,license\n" + "".join(f"{name},MIT\n" for name in names))
    found = [(item.label, item.split) for item in open_source(root)]
    assert sorted(set(found)) == [("ants", "test"), ("ants", "train"), ("bees", "test"), ("bees", "train")]
    (root / "metadata.csv").write_text("file_name,label\n" + "".join(f"{name},insect\n" for name in names))
    assert {item.label for item in open_source(root)} == {"insect"}
    assert {item.split for item in open_source(root)} == {"train", "test"}


def test_each_split_may_have_a_table(write_images: WriteImages) -> None:
    root = write_images("m/train", labels=("x",)).parent
    write_images("m/validation", labels=("x",))
    for folder in (root / "train", root / "validation"):
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
        (folder / "metadata.csv").write_text("file_name,label\n" + "".join(f"{name},insect\n" for name in names))
    items = list(open_source(root))
    assert {(item.label, item.split) for item in items} == {("insect", "train"), ("insect", "val")}
    assert len({item.id for item in items}) == len(items) == 6
