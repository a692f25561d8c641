"""Several labels for each item, from tables and stores to predictions with names."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet
from topwork import FeatureStore, Table, TransferClassifier, TransferRegressor, load
from topwork.errors import InputError, SourceError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.pipelines.estimators.evaluation import evaluate
from topwork.pipelines.estimators.refit import refit
from topwork.pipelines.estimators.result_files import write_predictions

NAMES = ["cold", "plant", "warm"]


@pytest.fixture
def sets(names: NDArray[np.str_]) -> list[list[str]]:
    """Return two or three labels for each class, none for one."""
    classes = sorted(set(names.tolist()))
    of_class: dict[str, list[str]] = {name: [] for name in classes}
    of_class[classes[0]] = ["warm"]
    of_class[classes[1]] = ["plant", "cold"]
    return [of_class[name] for name in names.tolist()]


@pytest.fixture
def table(paths: list[Path], sets: list[list[str]], tmp_path: Path) -> Path:
    rows = [{"path": str(path), "label": labels} for path, labels in zip(paths, sets, strict=True)]
    (tmp_path / "table.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path / "table.jsonl"


@pytest.fixture
def classifier(graph: ExportedGraph) -> TransferClassifier:
    return TransferClassifier(graph, "layer2", head="logreg", cv=0)


def as_matrix(sets: list[list[str]]) -> NDArray[np.int64]:
    return np.array([[int(name in labels) for name in NAMES] for labels in sets])


def test_table_of_lists_gives_what_lists_give(
    classifier: TransferClassifier, table: Path, paths: list[Path], sets: list[list[str]]
) -> None:
    expected = classifier.fit(paths, sets).predict_proba(paths)
    found = classifier.fit(table)
    assert found.classes_.tolist() == NAMES
    np.testing.assert_array_equal(found.predict_proba(paths), expected)
    np.testing.assert_array_equal(found.predict(paths), as_matrix(sets))
    assert evaluate(found, table)["accuracy"] == 1.0


def test_columns_of_yes_and_no_give_what_lists_give(
    classifier: TransferClassifier, paths: list[Path], sets: list[list[str]], tmp_path: Path
) -> None:
    with open(tmp_path / "table.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", *NAMES])
        writer.writerows([path, *row] for path, row in zip(paths, as_matrix(sets).tolist(), strict=True))
    found = classifier.fit(Table(tmp_path / "table.csv", label=NAMES))
    np.testing.assert_array_equal(found.predict(paths), as_matrix(sets))


def test_store_remembers_lists_and_trains_on_them(
    classifier: TransferClassifier, table: Path, paths: list[Path], sets: list[list[str]], tmp_path: Path
) -> None:
    classifier.set_params(store=tmp_path / "store").fit(table)
    store = FeatureStore.open(tmp_path / "store")
    assert store.labels == [sorted(labels) for labels in sets]
    again = TransferClassifier.from_store(store, head="logreg", cv=0).fit(store)
    assert again.classes_.tolist() == NAMES
    np.testing.assert_array_equal(again.predict(paths), as_matrix(sets))


def test_store_keeps_lists_given_from_python(
    classifier: TransferClassifier, paths: list[Path], sets: list[list[str]], tmp_path: Path
) -> None:
    partly: list[Any] = [None, *sets[1:]]
    with pytest.warns(UserWarning, match="no label"):
        classifier.set_params(store=tmp_path / "store").fit(paths, partly)
    assert FeatureStore.open(tmp_path / "store").labels == [None, *(sorted(labels) for labels in sets[1:])]


def test_user_labels_of_a_store_are_lists(
    classifier: TransferClassifier, table: Path, paths: list[Path], tmp_path: Path
) -> None:
    classifier.set_params(store=tmp_path / "store").fit(table)
    store = FeatureStore.open(tmp_path / "store")
    store.set_labels({store.ids[0]: ["warm", "cold"], store.ids[1]: []})
    assert store.labels[:2] == [["cold", "warm"], []]
    store.export(tmp_path / "export.parquet", format="parquet")
    assert parquet.read_table(tmp_path / "export.parquet")["label"].to_pylist() == store.labels


def test_separator_divides_the_cells_of_a_table_of_labels(
    classifier: TransferClassifier, table: Path, paths: list[Path], sets: list[list[str]], tmp_path: Path
) -> None:
    classifier.set_params(store=tmp_path / "store").fit(table)
    store = FeatureStore.open(tmp_path / "store")
    cells = dict.fromkeys(store.ids, "plant | warm") | {store.ids[0]: "|"}
    rows = "".join(f"{item_id},{cell},a|b\n" for item_id, cell in cells.items())
    (tmp_path / "labels.csv").write_text(f"id,label,note\n{rows}")

    child = refit(classifier, store, tmp_path / "labels.csv", label_separator="|", held_out=0, warm=False)
    np.testing.assert_array_equal(child.predict(paths).max(axis=0), [0, 1, 1])
    assert store.labels == [sorted(labels) for labels in sets]

    store.set_labels(tmp_path / "labels.csv", separator="|")
    assert store.labels == [[], *[["plant", "warm"]] * (len(cells) - 1)]
    assert set(store.get_labels("note")) == {"a|b"}


def test_separator_needs_a_column_of_text(
    classifier: TransferClassifier, table: Path, paths: list[Path], tmp_path: Path
) -> None:
    classifier.set_params(store=tmp_path / "store").fit(table)
    store = FeatureStore.open(tmp_path / "store")
    first = store.ids[0]
    with pytest.raises(InputError, match=r"no column 'label' to divide at '\|'; expected one of note"):
        store.set_labels(pa.table({"id": [first], "note": ["a|b"]}), separator="|")
    with pytest.raises(InputError, match="holds int64; expected text"):
        store.set_labels({first: 1}, separator="|")
    with pytest.raises(SourceError, match="the separator of labels is empty"):
        store.set_labels({first: "a"}, separator="")
    with pytest.raises(InputError, match="without a table of labels"):
        refit(classifier, store, label_separator="|")
    with pytest.raises(InputError, match="one label among lists is a list as well"):
        store.set_labels({first: "plant"})


def test_refit_learns_from_lists(
    classifier: TransferClassifier, table: Path, paths: list[Path], tmp_path: Path
) -> None:
    classifier.set_params(store=tmp_path / "store").fit(table)
    store = FeatureStore.open(tmp_path / "store")
    child = refit(classifier, store, {store.ids[0]: ["plant"]}, held_out=0)
    assert child.classes_.tolist() == NAMES
    with pytest.raises(InputError, match="'green'"):
        refit(classifier, store, {store.ids[0]: ["green"]}, held_out=0)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predictions_have_names(
    classifier: TransferClassifier, table: Path, sets: list[list[str]], tmp_path: Path, suffix: str
) -> None:
    classifier.fit(table).save(tmp_path / "bundle")
    out = tmp_path / f"predictions{suffix}"
    write_predictions(load(tmp_path / "bundle"), str(table), out)
    rows: list[dict[str, Any]]
    if suffix == ".csv":
        with open(out, newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [row["label"] for row in rows] == ["|".join(sorted(labels)) for labels in sets]
    else:
        is_parquet = suffix == ".parquet"
        rows = parquet.read_table(out).to_pylist() if is_parquet else list(map(json.loads, out.open()))
        assert [row["label"] for row in rows] == [sorted(labels) for labels in sets]
    assert all(f"p_{name}" in rows[0] for name in NAMES)


def test_unlearned_labels_are_left_out_with_a_warning(
    classifier: TransferClassifier, table: Path, paths: list[Path], sets: list[list[str]]
) -> None:
    classifier.fit(table)
    with pytest.warns(UserWarning, match="'green'"):
        classifier.score(paths, [[*sets[0], "green"], *sets[1:]])
    with pytest.raises(InputError, match="'warm'"):
        classifier.score(paths, [["Warm"]] * len(paths))
    with pytest.raises(InputError, match="none of the labels"):
        classifier.score(paths, [["green"]] * len(paths))


def test_regressor_refuses_lists(graph: ExportedGraph, table: Path) -> None:
    with pytest.raises(InputError, match="lists of labels"):
        TransferRegressor(graph, "layer2", cv=0).fit(table)


def test_likeliest_labels_in_parquet_are_names(classifier: TransferClassifier, table: Path, tmp_path: Path) -> None:
    write_predictions(classifier.fit(table), str(table), tmp_path / "out.parquet", top_k=2)
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert {row["label_1"] for row in rows} <= set(NAMES)
