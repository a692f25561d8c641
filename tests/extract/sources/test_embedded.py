"""Files in the cells of Parquet tables: found by their column, read in any order, never all in memory."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from pyarrow import parquet
from topwork.errors import DecodeError, SourceError
from topwork.extract.sources import embedded
from topwork.extract.sources.embedded import ParquetCells
from topwork.extract.sources.item import content_digest
from topwork.extract.sources.opening import open_source
from topwork.extract.sources.table import Table

N_FILES = 150


def encode(number: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((5, 7, 3), number, np.uint8)).save(stream, kind)
    return stream.getvalue()


def saved_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


CONTENTS = [encode(number) for number in range(N_FILES)]


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize("content", [encode(0), encode(0, "JPEG"), encode(0, "GIF"), encode(0, "BMP"), b"P" * 5000])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_contents_in_a_column_called_path_are_no_paths(content: bytes, kind: pa.DataType, tmp_path: Path) -> None:
    columns = {"path": pa.array([None, content], kind), "label": ["a", "b"]}
    table = write(tmp_path / "t.parquet", columns)
    for source in (table, Table(table, path="path")):
        missing, item = open_source(source)
        assert (item.label, item.read()) == ("b", content)
        assert item.id == f"bytes:{content_digest(content)[:32]}"
        with pytest.raises(DecodeError, match="empty"):
            missing.read()


def test_arrays_and_texts_in_a_column(tmp_path: Path) -> None:
    (item,) = open_source(write(tmp_path / "t.parquet", {"path": [saved_array()]}), kind="tensor")
    assert item.read() == saved_array()
    texts = [b"one line", "zwei\nZeilen ä".encode()]
    table = write(tmp_path / "t.parquet", {"content": texts})
    assert [item.read() for item in open_source(table, kind="text")] == texts
    table = write(tmp_path / "t.parquet", {"text": texts})
    assert [item.read() for item in open_source(table, kind="text")] == [text.decode() for text in texts]


def test_paths_in_bytes_stay_paths(tmp_path: Path) -> None:
    (tmp_path / "ä.png").write_bytes(CONTENTS[0])
    table = write(tmp_path / "t.parquet", {"path": ["ä.png".encode()], "thumbnail": [CONTENTS[1]]})
    (item,) = open_source(table)
    assert (item.id, item.read()) == ("ä.png", CONTENTS[0])
    (thumbnail,) = open_source(Table(table, path="thumbnail"))
    assert thumbnail.read() == CONTENTS[1]
    (image,) = open_source(write(table, {"path": [b"a.png"], "image": [CONTENTS[1]]}))
    assert image.read() == CONTENTS[1]


@pytest.mark.parametrize("cell", [CONTENTS[0], {"bytes": CONTENTS[0], "path": "a.png"}])
def test_column_of_another_name_is_named_in_the_error(cell: Any, tmp_path: Path) -> None:
    table = write(tmp_path / "t.parquet", {"label": ["a"], "jpeg": [cell], "mask": [b"\x00"]})
    with pytest.raises(SourceError, match=r"label, jpeg, mask; .*Files may be in jpeg, mask: --path-column jpeg"):
        open_source(table)
    (item,) = open_source(Table(table, path="jpeg"))
    assert item.read() == CONTENTS[0]
    with pytest.raises(SourceError, match=r"no column 'jpg'; it has label, jpeg, mask"):
        open_source(Table(table, path="jpg"))


def test_contents_go_before_the_names_that_the_files_had(tmp_path: Path) -> None:
    columns = {"file_name": ["gone/1.png"], "image": [CONTENTS[0]], "id": ["first"], "split": ["valid"]}
    (item,) = open_source(write(tmp_path / "t.parquet", columns))
    assert (item.id, item.split, item.read()) == ("first", "val", CONTENTS[0])


def test_only_column_of_a_table(tmp_path: Path) -> None:
    items = list(open_source(write(tmp_path / "t.parquet", {"image": CONTENTS})))
    assert [item.read() for item in items] == CONTENTS


def test_names_of_classes_are_kept_beside_contents(tmp_path: Path) -> None:
    features = {"info": {"features": {"label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": [{"bytes": content, "path": None} for content in CONTENTS[:2]], "label": [1, 0]})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "t.parquet")
    assert [item.label for item in open_source(tmp_path / "t.parquet")] == ["bee", "ant"]


@pytest.mark.parametrize("group_size", [1_000, 40, 7])
@pytest.mark.parametrize("form", ["bytes", "pairs", "pairs, some without a path"])
def test_items_are_read_in_any_order(
    group_size: int, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "KEPT_BYTES", 1)
    cells: list[Any] = list(CONTENTS)
    if form != "bytes":
        cells = [{"bytes": content, "path": f"{number}.png"} for number, content in enumerate(CONTENTS)]
    if form == "pairs, some without a path":
        cells[100]["path"] = None
    table = write(tmp_path / "t.parquet", {"image": cells, "label": CONTENTS}, row_group_size=group_size)
    items = list(open_source(table))
    names = [item.id for item in items]
    assert ("5.png" in names, "100.png" in names) == (form != "bytes", form == "pairs")
    order = list(range(N_FILES))
    random.Random(0).shuffle(order)
    assert [items[number].read() for number in order] == [CONTENTS[number] for number in order]
    assert [item.read() for item in reversed(items)] == CONTENTS[::-1]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda item: item.read(), items)) == CONTENTS


def test_ids_are_equal_each_time_and_several_threads_may_list_them(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "t.parquet", {"image": [*CONTENTS, CONTENTS[0], None]}))
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: [item.id for item in source], range(4))
    assert all(ids == first for ids in [*others, [item.id for item in source]])
    assert (len(source), len(set(first)), first[-2]) == (N_FILES + 2, N_FILES + 2, f"{first[0]}#2")


def test_rows_in_order_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = ParquetCells(write(tmp_path / "t.parquet", {"image": CONTENTS}, row_group_size=64), "image")
    opened: list[int] = []
    read_batches = ParquetCells._read_batches

    def count(self: ParquetCells, file: Any, group: int) -> Any:
        opened.append(group)
        return read_batches(self, file, group)

    monkeypatch.setattr(ParquetCells, "_read_batches", count)
    near: Sequence[int] = [row ^ 3 for row in range(N_FILES - 3)]  # as threads that overtake one another
    assert [cells[row] for row in near] == [CONTENTS[row] for row in near]
    assert opened == [0]
    assert cells[140] == CONTENTS[140]
    assert [cells[row] for row in (0, 140)] == [CONTENTS[0], CONTENTS[140]]
    assert opened in ([0], [0, 0, 2])  # if rows of this size are no longer kept


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace open files")
def test_file_that_is_replaced_changes_nothing(tmp_path: Path) -> None:
    table = write(tmp_path / "t.parquet", {"image": CONTENTS})
    items = list(open_source(table))
    os.replace(write(tmp_path / "new.parquet", {"image": [b"new"]}), table)
    assert [item.read() for item in items] == CONTENTS


def test_damaged_pages_are_named_with_their_table(tmp_path: Path) -> None:
    options = {"use_dictionary": False, "compression": "none", "write_page_checksum": False}
    table = write(tmp_path / "t.parquet", {"image": CONTENTS[:3], "label": ["a"] * 3}, **options)
    source = open_source(table)
    items = list(source)
    content = table.read_bytes()
    place = content.index(CONTENTS[0]) - 4  # its length
    with open(table, "r+b") as stream:
        stream.seek(place)
        stream.write(b"\xff\xff\xff\x7f")
    with pytest.raises(DecodeError, match=r"'image' of table .*t\.parquet"):
        items[0].read()
    with pytest.raises(SourceError, match=r"t\.parquet"):
        list(open_source(table))
    with open(table, "r+b") as stream:
        stream.write(content)
    assert [item.read() for item in items] == CONTENTS[:3]


def test_files_of_a_table_at_a_url(tmp_path: Path) -> None:
    system = MemoryFileSystem()
    system.pipe("/embedded/t.parquet", write(tmp_path / "t.parquet", {"path": CONTENTS}).read_bytes())
    try:
        assert [item.read() for item in open_source("memory://embedded/t.parquet")] == CONTENTS
    finally:
        system.rm("/embedded", recursive=True)


READ_ALL = """
import sys
from topwork.extract.sources.opening import open_source

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

list(open_source(sys.argv[1]))
before = anonymous()
peak = 0
for item in open_source(sys.argv[2]):
    item.read()
    peak = max(peak, anonymous())
print(peak - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux, which reports the memory")
@pytest.mark.parametrize("has_paths", [False, True])
def test_contents_are_never_all_in_memory(has_paths: bool, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(200_000)
    contents: list[Any] = [number.to_bytes(2, "little") + noise for number in range(600)]
    if has_paths:
        contents = [{"bytes": content, "path": f"{number}.png"} for number, content in enumerate(contents)]
    options = {"row_group_size": 20, "compression": "none"}
    write(tmp_path / "small.parquet", {"image": contents[:1]}, **options)
    write(tmp_path / "large.parquet", {"image": contents}, **options)
    command = [sys.executable, "-c", READ_ALL, tmp_path / "small.parquet", tmp_path / "large.parquet"]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown < 90_000, "kB, of 120,000"
