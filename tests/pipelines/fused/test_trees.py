"""Trees, forests and boosted trees in ONNX: rows on a threshold, sums of leaves and ties equal scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier
from topwork.extract.graphs.torch.cutter import OPSET
from topwork.pipelines.fused.fuse import convert_head
from topwork.pipelines.fused.trees import round_down

HEADS = {
    "tree": DecisionTreeClassifier(random_state=0),
    "one random tree": ExtraTreeClassifier(random_state=0),
    "forest": RandomForestClassifier(13, random_state=0),
    "random trees": ExtraTreesClassifier(13, max_depth=3, random_state=0),
    "scaled forest": make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)),
    "boosting": GradientBoostingClassifier(n_estimators=15, random_state=0),
    "boosting from zero": GradientBoostingClassifier(n_estimators=5, init="zero", random_state=0),
    "boosting from a class": GradientBoostingClassifier(n_estimators=5, init=DummyClassifier(), random_state=0),
    "histograms": HistGradientBoostingClassifier(max_iter=12, min_samples_leaf=3),
    "a leaf each": HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=1000),
}


def run(head: Any, rows: NDArray[np.float32]) -> list[NDArray[Any]]:
    model = convert_head(head, rows.shape[1], OPSET)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"features": rows}))


def load_rows(n_classes: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
    X, y = load_iris(return_X_y=True)
    return X.astype(np.float32), y % n_classes


def surround(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows, those between two of them, where thresholds are, and those next to these in float32."""
    middle = (rows + np.roll(rows, 7, axis=0)) / 2
    given = np.concatenate([rows, middle])
    infinity = np.float32(np.inf)
    return np.concatenate([given, np.nextafter(given, infinity), np.nextafter(given, -infinity), 0 * rows[:1]])


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_labels_and_probabilities_equal_scikit_learn(name: str, n_classes: int) -> None:
    rows, labels = load_rows(n_classes)
    head = HEADS[name].fit(rows, labels)
    found, probabilities = run(head, surround(rows))
    assert np.array_equal(found, head.predict(surround(rows)))
    assert np.abs(probabilities - head.predict_proba(surround(rows))).max() < 1e-6


def test_exponential_loss() -> None:
    rows, labels = load_rows(2)
    head = GradientBoostingClassifier(n_estimators=8, loss="exponential", random_state=0).fit(rows, labels)
    found, probabilities = run(head, rows)
    assert np.array_equal(found, head.predict(rows))
    assert np.abs(probabilities - head.predict_proba(rows)).max() < 1e-6


def test_values_equal_scikit_learn() -> None:
    rows, labels = load_rows(3)
    head = HistGradientBoostingRegressor(max_iter=10, min_samples_leaf=3).fit(rows, labels + rows[:, 0])
    values = run(head, surround(rows))[0]
    assert np.allclose(values.ravel(), head.predict(surround(rows)), rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.1, -0.1, 1 / 3, 5.0, 0.0, 1e-46, -1e-46, 1e39, -1e39])
def test_float32_features_pass_a_rounded_threshold_alike(threshold: float) -> None:
    rounded = round_down(np.array([threshold]))[0]
    near = np.float32(np.clip(threshold, -3e38, 3e38))
    for value in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))):
        assert (value <= rounded) == (float(value) <= threshold)
