"""The ONNX converter of the nearest centroid classifier equals scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_iris
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from topwork.extract.graphs.torch.cutter import OPSET
from topwork.pipelines.fused.fuse import convert_head

IRIS = {"str": ["setosa", "versicolor", "virginica"], "int": [-3, 5, 900], "bool": [False, True, True]}


def run(head: Any, X: NDArray[np.float32]) -> list[NDArray[Any]]:
    model = convert_head(head, X.shape[1], OPSET)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"features": X}))


def assert_same(head: Any, X: NDArray[np.float32]) -> None:
    labels, probabilities = run(head, X)
    assert np.array_equal(labels.astype(head.classes_.dtype), head.predict(X))
    assert np.abs(probabilities - head.predict_proba(X)).max() < 1e-4


@pytest.mark.parametrize("kind", IRIS)
@pytest.mark.parametrize(
    "head",
    [
        NearestCentroid(),
        NearestCentroid(shrink_threshold=0.3),
        NearestCentroid(priors="empirical"),
        make_pipeline(StandardScaler(), NearestCentroid()),
    ],
    ids=["plain", "shrunken", "priors", "scaled"],
)
def test_labels_and_probabilities_equal_scikit_learn(head: Any, kind: str) -> None:
    X, target = load_iris(return_X_y=True)
    X = X.astype(np.float32)
    rows = np.r_[0:20, 50:90, 100:150]  # classes of different size, so that empirical priors matter
    head = head.fit(X[rows], np.array(IRIS[kind])[target[rows]])
    assert_same(head, X)
    assert run(head, X)[0].dtype == (object if kind == "str" else np.int64)


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")
def test_features_that_never_vary_do_no_harm() -> None:
    X, y = load_digits(return_X_y=True)
    assert_same(NearestCentroid().fit(X[:500], y[:500]), X.astype(np.float32))


def test_two_distances_are_kept_apart() -> None:
    """``predict`` uses the plain distance, ``predict_proba`` one scaled by the spread: they may disagree."""
    X, y = load_iris(return_X_y=True)
    X = (X * [1, 1, 1, 20]).astype(np.float32)
    head = NearestCentroid().fit(X, y)
    labels, probabilities = run(head, X)
    assert (labels != probabilities.argmax(axis=1)).any()
    assert_same(head, X)


def test_one_row_is_a_batch_of_one() -> None:
    X, y = load_iris(return_X_y=True)
    labels, probabilities = run(NearestCentroid().fit(X, y), X[:1].astype(np.float32))
    assert (labels.tolist(), probabilities.shape) == ([0], (1, 3))
