"""Of fitted rows that are equally near, the graph takes those that scikit-learn takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from threadpoolctl import threadpool_limits
from topwork.extract.graphs.torch.cutter import OPSET
from topwork.pipelines.fused.fuse import convert_head

Rows = NDArray[np.float32]


def run(head: Any, rows: Rows) -> list[NDArray[Any]]:
    model = convert_head(head, rows.shape[1], OPSET)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"features": rows}))


def make_integers(n_rows: int, n_features: int, seed: int) -> Rows:
    return np.random.default_rng(seed).integers(-1, 2, (n_rows, n_features)).astype(np.float32)


def assert_same(head: Any, given: Rows) -> None:
    labels, probabilities = run(head, given)
    assert np.array_equal(labels, head.predict(given))
    assert np.abs(probabilities - head.predict_proba(given)).max() < 1e-6


@pytest.mark.parametrize("n_features", [3, 17])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 16, 59, 60])
def test_ties_at_the_last_neighbour_are_decided_as_by_its_heap(count: int, n_features: int) -> None:
    rows = make_integers(60, n_features, 0)
    head = KNeighborsClassifier(count, algorithm="brute").fit(rows, np.arange(60) % 7)
    assert_same(head, make_integers(200, n_features, 1))


@pytest.mark.parametrize("n_rows", [1, 2, 33])
def test_ties_of_cosines(n_rows: int) -> None:
    rows = np.concatenate([make_integers(100, 4, 0), 2 * make_integers(100, 4, 1), np.zeros((3, 4), np.float32)])
    head = make_pipeline(Normalizer(), KNeighborsClassifier(5, algorithm="brute")).fit(rows, np.arange(203) % 5)
    assert_same(head, np.concatenate([make_integers(n_rows, 4, 2), np.zeros((1, 4), np.float32)]))


def test_more_rows_than_a_chunk_are_taken_as_in_one_thread() -> None:
    rows = make_integers(1200, 5, 0)
    head = KNeighborsClassifier(5, algorithm="brute").fit(rows, np.arange(1200) % 9)
    with threadpool_limits(1):
        assert_same(head, make_integers(100, 5, 1))


def test_rows_shorter_than_rounding_are_not_normalised() -> None:
    rows = make_integers(40, 6, 0)
    head = make_pipeline(Normalizer(), KNeighborsClassifier(3, algorithm="brute")).fit(rows, np.arange(40) % 3)
    assert_same(head, (make_integers(30, 6, 1) * np.float32(1e-7)))
