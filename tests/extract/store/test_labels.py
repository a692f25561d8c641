"""Labels that are set without touching features: types, history, and precedence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from topwork.errors import InputError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.sources.table import Table
from topwork.extract.store.feature_store import FeatureStore

WriteImages = Callable[..., Path]


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny")


@pytest.fixture
def store(tiny: Extractor, write_images: WriteImages, tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "features", tiny)
    extract_features(write_images(each=2), store)
    return store


def again(store: FeatureStore) -> FeatureStore:
    return FeatureStore.open(store.path)


def test_labels_are_set_and_features_stay(store: FeatureStore) -> None:
    before = np.array(store.matrix("last"))
    assert store.set_labels({"cat/0.png": "lynx", "dog/1.png": "wolf"}) == 2
    assert store.labels == again(store).labels == ["lynx", "cat", "dog", "wolf"]
    np.testing.assert_array_equal(store.matrix("last"), before)
    assert store.verify() == []


@pytest.mark.parametrize(
    "values", [[3, 1, 2, 0], [0.5, 1.5, 2.0, 3.25], [True, False, True, True], ["a", "b", "c", "d"]], ids=str
)
def test_labels_keep_their_type(store: FeatureStore, values: list[Any]) -> None:
    store.set_labels(dict(zip(store.ids, values, strict=True)))
    assert [(type(label), label) for label in again(store).labels] == [(type(value), value) for value in values]


def test_numbers_of_numpy_are_numbers(store: FeatureStore) -> None:
    store.set_labels(dict(zip(store.ids, np.arange(4), strict=True)), "rank")
    assert again(store).get_labels("rank") == [0, 1, 2, 3]


def test_several_columns_lie_side_by_side(store: FeatureStore, tmp_path: Path) -> None:
    table = pa.table({"id": store.ids, "age": [1, 2, None, 4], "split": ["train", "train", "test", "test"]})
    parquet.write_table(table, tmp_path / "labels.parquet")
    store.set_labels(tmp_path / "labels.parquet")
    assert store.label_names == ["label", "split", "age"]
    assert store.get_labels("age") == [1, 2, None, 4]
    assert store.splits == ["train", "train", "test", "test"]
    assert store.labels == ["cat", "cat", "dog", "dog"]
    assert len(store.matrix("last", split="test")) == 2


def test_csv_gives_text_labels_by_path(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\ncat/1.png,007\ndog/0.png,\n")
    store.set_labels(tmp_path / "labels.csv")
    assert store.labels == ["cat", "007", "dog", "dog"]


def test_none_restores_the_label_of_the_source(store: FeatureStore) -> None:
    store.set_labels({"cat/0.png": "lynx"})
    store.set_labels({"cat/0.png": None, "cat/1.png": "puma"})
    assert store.labels == ["cat", "puma", "dog", "dog"]


def test_history_shows_earlier_splits(store: FeatureStore) -> None:
    store.set_labels({"cat/0.png": "train", "dog/0.png": "test"}, "split")
    store.set_labels({"dog/0.png": "train"}, "split")
    store.set_labels({"dog/0.png": "wolf"})
    changes = again(store).label_history("split")
    assert [dict(change.values) for change in changes] == [
        {"cat/0.png": "train", "dog/0.png": "test"},
        {"dog/0.png": "train"},
    ]
    assert {change.by for change in changes} == {"user"}
    assert changes[0].number < changes[1].number


def test_set_labels_survive_changed_content_and_a_lost_index(
    store: FeatureStore, write_images: WriteImages, tmp_path: Path
) -> None:
    store.set_labels({"cat/0.png": "lynx"})
    extract_features(write_images(each=2, seed=9), store)
    (store.path / "index.arrow").unlink()
    assert again(store).labels == ["lynx", "cat", "dog", "dog"]


def test_source_can_change_its_labels(tiny: Extractor, write_images: WriteImages, tmp_path: Path) -> None:
    root = write_images(each=1)
    store = FeatureStore.create(tmp_path / "features", tiny)
    table = root / "labels.csv"
    table.write_text("path,label,split\ncat/0.png,a,train\ndog/0.png,b,train\n")
    extract_features(Table(table), store)
    store.set_labels({"dog/0.png": "mine"})
    table.write_text("path,label,split\ncat/0.png,c,test\ndog/0.png,d,test\n")
    assert extract_features(Table(table), store).computed == 0
    assert (again(store).labels, again(store).splits) == (["c", "mine"], ["test", "test"])
    assert [(change.by, dict(change.values)) for change in store.label_history()] == [
        ("user", {"dog/0.png": "mine"}),
        ("source", {"cat/0.png": "c", "dog/0.png": "d"}),
    ]
    assert len(store.log.history()) == (before := len(store.log.history()))
    extract_features(Table(table), store)
    assert len(store.log.history()) == before


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"cat/0.png": "a", "nobody": "b"}, "'nobody'"),
        ({"cat/0.png": 3}, "'label'.*int and str"),
        ({"cat/0.png": [1]}, r"'label' .*list"),
        ({"cat/0.png": "a", "cat/1.png": 1}, "int"),
        (["a", "b"], "list"),
        (pa.table({"id": ["cat/0.png", "cat/0.png"], "label": ["a", "b"]}), "'cat/0.png'"),
        (pa.table({"id": ["cat/0.png", None], "label": ["a", "b"]}), "'id' .*1 "),
        (pa.table({"name": ["cat/0.png"], "label": ["a"]}), "expected 'id'"),
        (pa.table({"id": ["cat/0.png"]}), "expected 'id'"),
    ],
    ids=["unknown", "mixed", "list", "two types", "sequence", "twice", "empty", "no id", "no label"],
)
def test_invalid_labels_change_nothing(store: FeatureStore, labels: Any, message: str) -> None:
    before = len(store.log.history())
    with pytest.raises(InputError, match=message):
        store.set_labels(labels)
    assert (again(store).labels, len(store.log.history())) == (["cat", "cat", "dog", "dog"], before)


def test_labels_of_another_type_do_not_drop_those_of_other_items(store: FeatureStore) -> None:
    names = {"cat/0.png": "one", "dog/0.png": "two"}
    store.set_labels(names, "count")
    with pytest.raises(InputError, match="'count' would be int and str"):
        store.set_labels({"cat/0.png": 1}, "count")
    assert again(store).get_labels("count") == ["one", None, "two", None]
    store.set_labels({"cat/0.png": 1, "dog/0.png": 2}, "count")
    assert again(store).get_labels("count") == [1, None, 2, None]


def test_unknown_column_of_labels_is_an_error(store: FeatureStore) -> None:
    with pytest.raises(InputError, match=r"age.*label, split"):
        store.get_labels("age")
