"""Parameters of heads, weights of classes, and groups and weights of tables, beside scikit-learn's own estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import topwork
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from topwork import Extractor, FeatureStore, Table, TransferClassifier, TransferRegressor, few_shot_curve
from topwork.errors import InputError
from topwork.extract.graphs.exported_graph import ExportedGraph


def test_parameters_and_class_weights_are_those_of_the_estimator(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    labels = np.where(np.arange(len(names)) < 18, "common", "rare")
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=1000, class_weight="balanced"))
    expected = TransferClassifier(graph, "layer2", head=head, cv=0).fit(paths, labels).predict_proba(paths)
    named = TransferClassifier(
        graph, "layer2", head="logreg", cv=0, head_params={"C": 0.5}, class_weight="balanced"
    ).fit(paths, labels)
    np.testing.assert_allclose(named.predict_proba(paths), expected, atol=1e-6)
    named.save(tmp_path / "bundle")
    loaded = topwork.load(tmp_path / "bundle")
    assert loaded.unfitted_head(labels).steps[-1][1].get_params() == head.steps[-1][1].get_params()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "knn", "head_params": {"neighbours": 1}}, "'neighbours'"),
        ({"head": "knn", "head_params": {"n_neighbors": 0}}, "n_neighbors"),
        ({"head": "logreg", "head_params": {"C": "much"}}, "C"),
        ({"head": "knn", "class_weight": "balanced"}, "class_weight"),
        ({"head": "logreg", "class_weight": "equal"}, "equal"),
        ({"head": "logreg", "head_params": ["C"]}, "dictionary"),
    ],
)
def test_wrong_options_are_errors_before_anything_is_computed(
    options: dict[str, Any], message: str, graph: ExportedGraph
) -> None:
    with pytest.raises(InputError, match=message):
        TransferClassifier(graph, "layer2", **options).fit(["missing.png", "lost.png"], ["a", "b"])


@pytest.mark.parametrize("head", ["svm", "hgb", "ridge"])
def test_several_values_are_learned_apart(head: str, graph: ExportedGraph, paths: list[Path]) -> None:
    values = np.random.default_rng(0).normal(size=(len(paths), 2))
    several = TransferRegressor(graph, "layer2", head=head, cv=0).fit(paths, values).predict(paths)
    if head != "ridge":  # which has one penalty for all values
        alone = TransferRegressor(graph, "layer2", head=head, cv=0).fit(paths, values[:, 1]).predict(paths)
        np.testing.assert_allclose(several[:, 1], alone)
    assert several.shape == values.shape


@pytest.fixture
def table(paths: list[Path], tmp_path: Path) -> Path:
    rows = [f"{path},{'ab'[row % 2]},{row // 4},{1 + row % 3}" for row, path in enumerate(paths)]
    file = tmp_path / "table.csv"
    file.write_text("path,label,scene,importance\n" + "\n".join(rows) + "\n")
    return file


def test_groups_and_weights_of_a_table_are_those_that_are_given(
    table: Path, graph: ExportedGraph, paths: list[Path]
) -> None:
    labels = ["ab"[row % 2] for row in range(len(paths))]
    weights = [1.0 + row % 3 for row in range(len(paths))]
    classifier = TransferClassifier(graph, "layer2", head="logreg", cv=3)
    classifier.fit(paths, labels, sample_weight=weights, groups=np.arange(len(paths)) // 4)
    expected = classifier.predict_proba(paths)
    report = classifier.fit_report_
    classifier.fit(Table(table, group="scene", weight="importance"))
    np.testing.assert_array_equal(classifier.predict_proba(paths), expected)
    assert classifier.fit_report_ == report
    classifier.fit(Table(table, weight="importance"))
    assert classifier.fit_report_ != report


def test_weights_that_are_no_numbers_are_errors(table: Path, graph: ExportedGraph) -> None:
    with pytest.raises(InputError, match="weight"):
        TransferClassifier(graph, "layer2", head="logreg").fit(Table(table, weight="path"))


def test_curve_of_a_store_is_that_of_its_features(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    store = FeatureStore.import_features(tmp_path / "store", features)
    labels = ["a", "b", None] * 4
    kept = [row for row in range(12) if row % 3 < 2]
    options: dict[str, Any] = {"head": "centroid", "shots": (1, 2), "draws": 2}
    expected = few_shot_curve(features[kept], [labels[row] for row in kept], **options)
    points = few_shot_curve(store, labels, **options)
    for point, other in zip(points, expected, strict=True):
        np.testing.assert_array_equal(point.scores, other.scores)


@pytest.mark.filterwarnings("ignore:.* items failed")
def test_rows_with_pandas_output_keep_their_index(graph: ExportedGraph, paths: list[Path]) -> None:
    extractor = Extractor(graph, "layer2", on_error="record").set_output(transform="pandas")
    items = pd.Series([paths[0], "missing.png", paths[1]], index=["a", "b", "c"])
    frame = extractor.fit_transform(items)
    assert frame.index.tolist() == ["a", "c"]
    assert frame.columns.tolist() == extractor.get_feature_names_out().tolist()
    np.testing.assert_array_equal(frame.to_numpy(), Extractor(graph, "layer2").transform([paths[0], paths[1]]))
