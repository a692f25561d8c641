"""Labels of tables: lists, cells with a separator, a column for each label, and the names of numbered classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from topwork import Table
from topwork.errors import SourceError
from topwork.extract.sources.label_sets import join_labels, split_labels
from topwork.extract.sources.opening import open_source

SETS = [["warm", "plant"], [], None, ["cold"], ["plant", "plant"]]
EXPECTED = [["plant", "warm"], [], None, ["cold"], ["plant"]]
"""The labels of each row, each once, sorted."""


def labels_of(source: Any) -> list[Any]:
    return [split_labels(item.label) for item in open_source(source, kind="text")]


def write_lines(path: Path, labels: list[Any]) -> Path:
    rows = [{"text": f"row {number}", "label": label} for number, label in enumerate(labels)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def write_parquet(path: Path, labels: list[Any], feature: dict[str, Any] | None = None) -> Path:
    table = pa.table({"text": [f"row {number}" for number in range(len(labels))], "label": labels})
    if feature is not None:
        info = {"info": {"features": {"text": {"_type": "Value"}, "label": feature}}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps(info).encode()})
    parquet.write_table(table, path)
    return path


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_lists_are_several_labels(tmp_path: Path) -> None:
    assert labels_of(write_lines(tmp_path / "a.jsonl", SETS)) == EXPECTED
    assert labels_of(write_parquet(tmp_path / "a.parquet", SETS)) == EXPECTED


def test_lists_of_integers_are_texts(tmp_path: Path) -> None:
    sets = [[3, 1], [], [10]]
    for path in (write_lines(tmp_path / "a.jsonl", sets), write_parquet(tmp_path / "a.parquet", sets)):
        assert labels_of(path) == [["1", "3"], [], ["10"]]


def test_large_and_fixed_size_lists_are_several_labels(tmp_path: Path) -> None:
    for kind in (pa.large_list(pa.string()), pa.list_(pa.string(), 2)):
        table = pa.table({"text": ["a", "b"], "label": pa.array([["x", "y"], ["y", "z"]], kind)})
        parquet.write_table(table, tmp_path / "a.parquet")
        assert labels_of(tmp_path / "a.parquet") == [["x", "y"], ["y", "z"]]


def test_one_label_in_each_list_is_still_a_list(tmp_path: Path) -> None:
    assert labels_of(write_lines(tmp_path / "a.jsonl", [["a"], ["b"]])) == [["a"], ["b"]]


def test_separator_divides_cells(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "text,label", "r1,warm|plant", "r2,", "r3,cold", "r4, plant | plant |", "r5,|")
    assert labels_of(Table(path, label_separator="|")) == [["plant", "warm"], None, ["cold"], ["plant"], []]
    assert labels_of(path)[0] == "warm|plant"


@pytest.mark.parametrize("separator", [";", ", ", " and "])
def test_separator_is_any_text(separator: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [f"b{separator}a", "a"])
    assert labels_of(Table(path, label_separator=separator)) == [["a", "b"], ["a"]]


def test_columns_say_which_labels_apply(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "text,cold,plant,warm", "r1,0,1,1", "r2,0,0,0", "r3,True,no,FALSE", "r4,1,,0")
    assert labels_of(Table(path, label=["cold", "plant", "warm"])) == [["plant", "warm"], [], ["cold"], None]


def test_columns_of_truth_values_and_floats_say_which_labels_apply(tmp_path: Path) -> None:
    columns = {"text": ["a", "b"], "x": [True, False], "y": [0.0, 1.0], "z": [1, 0]}
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert labels_of(Table(tmp_path / "a.parquet", label=("x", "y", "z"))) == [["x", "z"], ["y"]]


def test_wrong_cells_of_several_columns_are_errors(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "text,cold,warm", "r1,0,3")
    with pytest.raises(SourceError, match=r"'warm' holds '3'.*1 or 0"):
        labels_of(Table(path, label=["cold", "warm"]))
    with pytest.raises(SourceError, match=r"no column 'hot'.*cold, warm"):
        labels_of(Table(path, label=["cold", "hot"]))


@pytest.mark.parametrize("sets", [[[0.5, 1.5]], [[{"a": 1}]], [[["a"]]]])
def test_lists_of_other_values_are_errors(sets: list[Any], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="label"):
        labels_of(write_parquet(tmp_path / "a.parquet", sets))
    with pytest.raises(SourceError, match="label"):
        labels_of(write_lines(tmp_path / "a.jsonl", sets))


def test_lists_in_a_column_of_text_are_errors(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", SETS)
    with pytest.raises(SourceError, match=r"'label'.*list"):
        labels_of(Table(path, text="label", label="text"))


def test_numbered_classes_have_their_names(tmp_path: Path) -> None:
    feature = {"names": ["ants", "bees"], "_type": "ClassLabel"}
    assert labels_of(write_parquet(tmp_path / "a.parquet", [1, 0, -1, None], feature)) == ["bees", "ants", None, None]


@pytest.mark.parametrize("wrap", [lambda own: [own], lambda own: {"feature": own, "_type": "Sequence"}])
def test_lists_of_numbered_classes_have_their_names(wrap: Any, tmp_path: Path) -> None:
    feature = wrap({"names": ["ants", "bees", "wasps"], "_type": "ClassLabel"})
    found = labels_of(write_parquet(tmp_path / "a.parquet", [[2, 0], [], [1]], feature))
    assert found == [["ants", "wasps"], [], ["bees"]]


def test_class_beyond_the_names_is_an_error(tmp_path: Path) -> None:
    feature = {"names": ["ants", "bees"], "_type": "ClassLabel"}
    with pytest.raises(SourceError, match="label 2, but names for 2 classes"):
        labels_of(write_parquet(tmp_path / "a.parquet", [0, 2], feature))


@pytest.mark.parametrize("described", [b"{", b"[]", b'{"info": null}', b'{"info": {"features": {"label": 3}}}'])
def test_descriptions_of_another_form_are_left_alone(described: bytes, tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "label": [1]}).replace_schema_metadata({b"huggingface": described})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert labels_of(tmp_path / "a.parquet") == ["1"]


@pytest.mark.parametrize("labels", [["b", "a"], {"a", "b"}, np.array(["a", "b"], object)])
def test_lists_given_from_python_are_several_labels(labels: Any) -> None:
    items = list(open_source(["text"], labels=[labels], kind="text"))
    assert split_labels(items[0].label) == ["a", "b"]


def test_labels_with_the_separator_of_several_are_errors() -> None:
    for labels in ([join_labels(["a"])], [["a\x1fb"]]):
        with pytest.raises(SourceError, match="control character"):
            list(open_source(["text"], labels=labels, kind="text"))


def test_empty_separator_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="separator of labels is empty"):
        labels_of(Table(write_lines(tmp_path / "a.jsonl", ["a"]), label_separator=""))


def test_blank_cells_of_several_columns_are_no_label(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "text,cold,warm", "r1,0, ", "r2,0,1")
    assert labels_of(Table(path, label=["cold", "warm"])) == [None, ["warm"]]
