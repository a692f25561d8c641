"""Tables as sources: rows stay in order, cells stay the texts they are, what is missing fails alone."""

from __future__ import annotations

import csv
import datetime
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyarrow import parquet
from topwork.errors import DecodeError, SourceError
from topwork.extract.sources.item import Item, content_digest
from topwork.extract.sources.label_sets import UNIT_SEPARATOR
from topwork.extract.sources.opening import open_source
from topwork.extract.sources.path_labels import normalize_label
from topwork.extract.sources.table import Table, TableSource
from topwork.extract.sources.table_file import TABLE_SUFFIXES

ROWS = [
    {"text": "null", "label": "001", "split": "train"},
    {"text": 'two\nlines, with "quotes" and a comma', "label": "none", "split": "Validation"},
    {"text": "  Größe 蚂蚁\t🐜 ", "label": "NaN", "split": "test"},
    {"text": "null", "label": "1.50", "split": "dev"},
    {"text": "2024-01-31", "label": "2024-01-31T00:00:00", "split": "train"},
    {"text": "true", "label": "1e5", "split": "train"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as the kind of table that the ending names."""
    names = list(rows[0])
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".arrow":
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
    elif path.suffix == ".jsonl":
        lines = (json.dumps(row, ensure_ascii=number % 2 == 0) for number, row in enumerate(rows))
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    else:
        with open(path, "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([names, *([row[name] for name in names] for row in rows)])
    return path


def csv_of(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def items(source: Any, kind: str = "text") -> list[Item]:
    return list(open_source(source, kind=kind))


def contents(found: list[Item]) -> list[Any]:
    return [item.read() for item in found]


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_every_kind_of_table_yields_the_same_texts_and_labels(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"table{suffix}", ROWS)
    for given_source in (path, str(path), Table(path), Table(str(path), text="text", label="label", split="split")):
        source = open_source(given_source, kind="text")
        assert isinstance(source, TableSource)
        assert (len(source), source.ignored) == (len(ROWS), 0)
        for _ in range(2):
            found = list(source)
            assert contents(found) == [row["text"] for row in ROWS]
            assert [item.label for item in found] == [row["label"] for row in ROWS]
            assert [item.split for item in found] == ["train", "val", "test", "dev", "train", "train"]


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_text_is_named_by_its_content_and_a_second_one_is_told_apart(suffix: str, tmp_path: Path) -> None:
    found = items(write(tmp_path / f"table{suffix}", ROWS))
    digests = [f"text:{content_digest(row['text'])[:32]}" for row in ROWS]
    assert [item.id for item in found] == [*digests[:3], f"{digests[0]}#2", *digests[4:]]
    assert {(item.size, item.mtime_ns) for item in found} == {(None, None)}


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_column_of_ids_names_the_rows(suffix: str, tmp_path: Path) -> None:
    rows = [{"id": name, "text": text} for name, text in (("007", "a"), ("x", "b"), ("x", "c"), ("", "d"))]
    path = write(tmp_path / f"table{suffix}", rows)
    expected = ["007", "x", "x#2", f"text:{content_digest('d')[:32]}"]
    assert [item.id for item in items(path)] == expected
    assert [item.id for item in items(Table(path, id="text"))] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_columns_of_other_names_are_chosen(suffix: str, tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "text": f"t{i}", "topic": f"topic{i}", "label": "other"} for i in range(3)]
    found = items(Table(write(tmp_path / f"table{suffix}", rows), text="question", label="topic"))
    assert contents(found) == ["q0", "q1", "q2"]
    assert [item.label for item in found] == ["topic0", "topic1", "topic2"]


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
@pytest.mark.parametrize("field", ["path", "text", "label", "id", "split"])
def test_column_that_is_not_there_is_named_with_those_that_are(suffix: str, field: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"table{suffix}", ROWS)
    with pytest.raises(SourceError, match=rf"table{suffix} .*'nothing'.*text, label, split"):
        open_source(Table(path, **{field: "nothing"}), kind="text")


@pytest.mark.parametrize(("kind", "wanted"), [("text", "'text' or 'path'"), ("image", "'path'"), ("tensor", "'path'")])
def test_table_without_content_is_refused_and_the_option_named(kind: str, wanted: str, tmp_path: Path) -> None:
    path = write(tmp_path / "table.csv", [{"sentence": "a", "label": "b"}])
    with pytest.raises(SourceError, match=f"sentence, label.*{wanted}"):
        open_source(path, kind=kind)


def test_semicolons_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"columns path;label; .*divided by semicolons: save it with commas"):
        items(csv_of(tmp_path / "a.csv", "path;label\na.png;cat\n"), "image")


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_paths_are_relative_to_the_folder_of_the_table(suffix: str, write_images: Callable[..., Path]) -> None:
    root = write_images(labels=("cat", "dog"), each=1)
    other = root.parent / "elsewhere.png"
    other.write_bytes((root / "dog" / "0.png").read_bytes())
    names = ["cat/0.png", "./dog/0.png", "../elsewhere.png", str(other), "cat/0.png"]
    rows = [{"path": name, "label": str(number)} for number, name in enumerate(names)]
    found = items(write(root / f"table{suffix}", rows), kind="image")
    ids = ["cat/0.png", "dog/0.png", "../elsewhere.png", other.as_posix(), "cat/0.png#2"]
    assert [item.id for item in found] == ids
    assert contents(found) == [(root / name).read_bytes() for name in names]
    assert [(item.size, item.mtime_ns) for item in found] == [
        ((root / name).stat().st_size, (root / name).stat().st_mtime_ns) for name in names
    ]
    assert [item.label for item in found] == [str(number) for number in range(5)]


def test_path_that_leads_nowhere_fails_when_it_is_read(tmp_path: Path) -> None:
    (item,) = items(write(tmp_path / "table.csv", [{"path": "gone.png"}]), kind="image")
    assert (item.id, item.size, item.mtime_ns) == ("gone.png", None, None)
    with pytest.raises(FileNotFoundError):
        item.read()


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_texts_may_lie_in_files(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    for name in ("a", "b"):
        (tmp_path / "notes" / f"{name}.txt").write_text(f"text of {name}")
    path = write(tmp_path / f"table{suffix}", [{"path": f"notes/{name}.txt", "label": name} for name in ("b", "a")])
    found = items(path)
    assert [item.id for item in found] == ["notes/b.txt", "notes/a.txt"]
    assert contents(found) == [b"text of b", b"text of a"]


def test_column_of_texts_goes_before_one_of_paths_where_texts_are_wanted(tmp_path: Path) -> None:
    path = write(tmp_path / "table.csv", [{"path": "a.txt", "text": "of the table"}])
    (tmp_path / "a.txt").write_text("of the file")
    assert contents(items(path)) == ["of the table"]
    assert contents(items(path, kind="tensor")) == [b"of the file"]


def test_column_of_paths_that_is_asked_for_by_name_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "table.csv", [{"file": "a.txt", "text": "of the table"}])
    (tmp_path / "a.txt").write_text("of the file")
    assert contents(items(Table(path, path="file"))) == [b"of the file"]


MISSING: list[dict[str, Any]] = [
    {"text": "a", "label": "x", "split": "train"},
    {"text": None, "label": "x", "split": None},
    {"text": "c", "label": None, "split": "val"},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_row_without_a_text_fails_alone_and_one_without_a_label_has_none(suffix: str, tmp_path: Path) -> None:
    found = items(write(tmp_path / f"table{suffix}", MISSING))
    assert [item.label for item in found] == ["x", "x", None]
    assert [item.split for item in found] == ["train", None, "val"]
    assert [found[0].read(), found[2].read()] == ["a", "c"]
    with pytest.raises(DecodeError, match="empty"):
        found[1].read()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("name", [None, ""])
def test_row_without_a_path_fails_alone(suffix: str, name: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text of a")
    found = items(write(tmp_path / f"table{suffix}", [{"path": "a.txt"}, {"path": name}]), kind="text")
    assert found[0].read() == b"text of a"
    with pytest.raises(DecodeError, match="empty"):
        found[1].read()


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_empty_cells_are_empty_texts_and_no_labels(suffix: str, tmp_path: Path) -> None:
    rows = [{"text": "a", "label": ""}, {"text": "", "label": "x"}, {"text": "", "label": ""}]
    found = items(write(tmp_path / f"table{suffix}", rows))
    assert contents(found) == ["a", "", ""]
    assert [item.label for item in found] == [None, "x", None]


@pytest.mark.parametrize("cell", ["null", "NULL", "NA", "N/A", "nan", "NaN", "None", "#N/A", "001", "1.0", "true", "-"])
@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_cells_that_look_like_something_else_stay_texts(suffix: str, cell: str, tmp_path: Path) -> None:
    found = items(write(tmp_path / f"table{suffix}", [{"text": cell, "label": cell, "id": cell}] * 2))
    assert contents(found) == [cell, cell]
    assert [item.label for item in found] == [cell, cell]
    assert [item.id for item in found] == [cell, f"{cell}#2"]


@pytest.mark.parametrize("cell", ["2024-01-31", "2024-01-31 10:00", "2024-01-31T10:00:00Z", "10:00", "10:00:00"])
@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_dates_and_times_stay_texts(suffix: str, cell: str, tmp_path: Path) -> None:
    found = items(write(tmp_path / f"table{suffix}", [{"text": cell, "label": cell}]))
    assert (found[0].read(), found[0].label) == (cell, cell)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_numbers_and_truth_as_labels_become_their_texts(suffix: str, tmp_path: Path) -> None:
    rows = [
        {"text": "a", "whole": 3, "real": 0.5, "truth": True},
        {"text": "b", "whole": -1, "real": 2.0, "truth": False},
    ]
    path = write(tmp_path / f"table{suffix}", rows)
    for name, expected in (("whole", ["3", "-1"]), ("real", ["0.5", "2.0"]), ("truth", ["True", "False"])):
        assert [item.label for item in items(Table(path, label=name))] == expected


def test_nan_in_parquet_is_no_label(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 1.0}, {"text": "b", "label": float("nan")}, {"text": "c", "label": None}]
    found = items(write(tmp_path / "table.parquet", rows))
    assert [item.label for item in found] == ["1", None, None]


def test_parquet_columns_of_other_types_are_read(tmp_path: Path) -> None:
    columns = {
        "text": pa.array(["a", "b"], pa.large_string()),
        "label": pa.array(["x", "y"]).dictionary_encode(),
        "id": pa.array([datetime.date(2024, 1, 31), None]),
    }
    parquet.write_table(pa.table(columns), tmp_path / "table.parquet")
    found = items(tmp_path / "table.parquet")
    assert [(item.read(), item.label) for item in found] == [("a", "x"), ("b", "y")]
    assert found[0].id == "2024-01-31"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_mark_of_utf_8_is_no_part_of_the_first_name(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"table{suffix}", ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert contents(items(path)) == [row["text"] for row in ROWS]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_of_every_system_are_read(end: str, last: bool, tmp_path: Path) -> None:
    content = end.join(["text,label", "a,x", '"b\nc",y']) + (end if last else "")
    found = items(csv_of(tmp_path / "table.csv", content))
    assert [(item.read(), item.label) for item in found] == [("a", "x"), ("b\nc", "y")]


def test_quoted_line_end_is_kept_as_it_is(tmp_path: Path) -> None:
    text = "first\r\nsecond\n\nthird " + "x" * 100
    rows = [{"text": f"{text} {number}", "label": "x"} for number in range(20_000)]  # more than a block of 1 MiB
    assert contents(items(write(tmp_path / "table.csv", rows))) == [row["text"] for row in rows]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.csv", "text,label\na,x\nb\n"),
        ("table.csv", "text,label\na,x,more\n"),
        ("table.tsv", "text\tlabel\na\n"),
        ("table.csv", ""),
        ("table.csv", b"text,label\nGr\xf6\xdfe,x\n"),
        ("table.csv", b"Gr\xf6\xdfe,label\na,x\n"),
        ("table.csv", "text,label\n\"open,x\n"),
        ("table.csv", "text,label,text\na,x,b\n"),
        ("table.jsonl", '{"text": "a"}\n{"text": \n'),
        ("table.jsonl", '{"text": "a"}\n{"text": 3}\n'),
        ("table.jsonl", '["a"]\n'),
        ("table.jsonl", ""),
        ("table.parquet", b"PAR1 and no more"),
        ("table.parquet", b""),
    ],
    ids=[
        "short row", "long row", "short row of tabs", "empty", "latin-1", "latin-1 header", "open quote", "name twice",
        "damaged json", "mixed types", "json list", "empty json", "damaged parquet", "empty parquet",
    ],
)  # fmt: skip
def test_damaged_table_is_refused_by_name(name: str, content: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=name.replace(".", r"\.")):
        open_source(csv_of(tmp_path / name, content), kind="text")


def test_table_of_a_header_alone_holds_no_items(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"table\.csv holds no text items"):
        open_source(csv_of(tmp_path / "table.csv", "text,label\n"), kind="text")


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.xlsx").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"table\.xlsx .*\.csv, \.tsv, \.jsonl, \.parquet"):
        open_source(Table(tmp_path / "table.xlsx"), kind="text")
    with pytest.raises(SourceError, match=r"absent\.csv does not exist"):
        open_source(Table(tmp_path / "absent.csv"), kind="text")


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=20)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), st.sampled_from([",", "\t"]))
def test_any_text_that_pythons_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    assume(not any(label.startswith(UNIT_SEPARATOR) for _, label in rows))
    assume(delimiter == "," or not any("\t" in cell and "\n" in cell for row in rows for cell in row))
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    path = tmp_path_factory.mktemp("any") / ("table.csv" if delimiter == "," else "table.tsv")
    found = items(csv_of(path, stream.getvalue()))
    expected = [(text, normalize_label(label)) for text, label in rows]
    assert [(item.read(), item.label or "") for item in found] == expected


@given(st.lists(CELLS, min_size=1, max_size=8))
def test_any_text_that_pythons_json_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("any") / "table.jsonl"
    assert contents(items(write(path, [{"text": text} for text in texts]))) == texts


def test_tsv_whose_cell_swallows_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reviews.tsv"
    path.write_text('label\ttext\n1\tfirst\n0\t"What a film\n1\tthird\n0\tends with a quote"\n1\tfifth\n')
    with pytest.raises(SourceError, match=r"reviews\.tsv .*tabs"):
        TableSource(Table(path), kind="text")


def test_bytes_of_parquet_are_texts_and_lists_are_refused(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "table.parquet"
    parquet.write_table(pa.table({"text": [b"gr\xc3\xbcn", None]}), path)
    items = list(TableSource(Table(path), kind="text"))
    assert items[0].read() == "grün"
    parquet.write_table(pa.table({"text": [["a"], ["b"]]}), path)
    with pytest.raises(SourceError, match="list"):
        TableSource(Table(path), kind="text")


def test_urls_in_cells_are_read_as_such(tmp_path: Path, write_images: Callable[..., Path]) -> None:
    root = write_images(labels=("cat",), each=1)
    url = f"file://{root / 'cat' / '0.png'}"
    (tmp_path / "urls.csv").write_text(f"path\n{url}\n")
    (item,) = TableSource(Table(tmp_path / "urls.csv"))
    assert (item.id, item.read()) == (url, (root / "cat" / "0.png").read_bytes())


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1.0, None], ["1", None]),
        ([1.0, float("nan"), 2.0], ["1", None, "2"]),
        ([1.5, None], ["1.5", None]),
        ([1.0, 2.0], ["1.0", "2.0"]),
    ],
)
def test_whole_numbers_beside_a_gap_stay_whole(labels: list[Any], expected: list[Any], tmp_path: Path) -> None:
    rows = {"path": [f"{n}.png" for n in range(len(labels))], "label": labels}
    parquet.write_table(pa.table(rows), tmp_path / "t.parquet")
    assert [item.label for item in TableSource(Table(tmp_path / "t.parquet"))] == expected


@pytest.mark.parametrize("values", [[{"x": 1}, None], [[1.5], [2]], [[1], "a"], [1, "a"], [1, 1.5]])
def test_columns_of_json_lines_that_are_not_used_may_hold_anything(values: list[Any], tmp_path: Path) -> None:
    lines = [json.dumps({"path": f"{n}.png", "more": value}) for n, value in enumerate(values)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    assert len(TableSource(Table(tmp_path / "t.jsonl"))) == 2
    if values != [1, 1.5]:
        with pytest.raises(SourceError, match="'more' holds"):
            TableSource(Table(tmp_path / "t.jsonl", label="more"))


@pytest.mark.parametrize("form", ["bytes", "large", "struct", "struct with path"])
def test_files_in_a_parquet_column_are_items(form: str, tmp_path: Path) -> None:
    contents = [b"first", None, b"third"]
    columns: dict[str, Any] = {
        "bytes": contents,
        "large": pa.array(contents, pa.large_binary()),
        "struct": [None if content is None else {"bytes": content, "path": None} for content in contents],
        "struct with path": [{"bytes": content, "path": f"{content!r}.png"} for content in contents],
    }
    parquet.write_table(pa.table({"image": columns[form], "label": ["a", "b", "c"]}), tmp_path / "t.parquet")
    found = list(open_source(tmp_path / "t.parquet"))
    assert [item.label for item in found] == ["a", "b", "c"]
    assert [item.read() for item in (found[0], found[2])] == [b"first", b"third"]
    assert all(len(item.id) < 50 for item in found)
    with pytest.raises((DecodeError, OSError)):
        found[1].read()


@pytest.mark.parametrize("form", ["file", "stream"])
def test_arrow_with_lengths_beyond_its_end_is_refused(form: str, tmp_path: Path) -> None:
    table = pa.table({"text": ["one", "two", "three"], "id": ["a", "b", "c"]})
    path = tmp_path / "a.arrow"
    open_writer = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    with open_writer(path, table.schema) as writer:
        writer.write_table(table)
    content = path.read_bytes()
    offsets = struct.pack("<4i", 0, 3, 6, 11)
    assert offsets in content
    path.write_bytes(content.replace(offsets, struct.pack("<4i", 0, 3, 2**20, 2**20 + 5)))
    with pytest.raises(SourceError, match=r"a\.arrow.*offset"):
        items(path)


def test_json_lines_whose_rows_have_nothing_in_common_are_refused(tmp_path: Path) -> None:
    first = json.dumps({"text": "one", **{f"column {number}": 1 for number in range(2000)}})
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([first, *['{"text": "two"}'] * 2000]))
    with pytest.raises(SourceError, match=r"2,001 rows have 2,001 names"):
        items(path)
    path.write_text("\n".join([first, *['{"text": "two"}'] * 100]))
    assert len(items(path)) == 101
