"""Metrics: labels are compared by value, rows of several labels as a whole, and weights count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import r2_score
from topwork.heads.metrics import (
    are_correct,
    compare_predictions,
    compute_accuracy,
    compute_mean_absolute_error,
    compute_r2,
    compute_score,
    score_head,
)


def objects(*labels: Any) -> Any:
    array = np.empty(len(labels), object)
    array[:] = labels
    return array


@pytest.mark.parametrize(
    ("targets", "predictions", "expected"),
    [
        (np.array(["a", "b"]), np.array(["a", "a"]), [True, False]),
        (np.array(["a", "b"]), objects("a", None), [True, False]),
        (objects(1, "1", (2, 3)), objects(1, 1, (2, 3)), [True, False, True]),
        (np.array([1, 2]), np.array(["1", "2"]), [False, False]),
        (np.array([[0, 1], [1, 1]]), np.array([[0, 1], [1, 0]]), [True, False]),
    ],
)
def test_rows_are_correct_by_value(targets: Any, predictions: Any, expected: list[bool]) -> None:
    assert are_correct(targets, predictions).tolist() == expected


def test_paired_difference_and_its_error() -> None:
    targets = np.array(["a", "b", "a", "b"])
    better, worse = np.array(["a", "b", "a", "a"]), np.array(["a", "a", "b", "b"])
    difference, error = compare_predictions("accuracy", targets, better, baseline=worse)
    assert difference == 0.25
    assert error == pytest.approx(np.std([0, 1, 1, -1], ddof=1) / 2)
    values = np.array([[0.0, 5.0], [1.0, 6.0], [2.0, 9.0], [3.0, 8.0]])
    first, second = values + np.array([0.1, 0.2]), values + np.array([0.5, -0.4])
    difference, error = compare_predictions("R2", values, first, baseline=second)
    assert difference == pytest.approx(compute_score("R2", values, first) - compute_score("R2", values, second))
    assert error == pytest.approx(0.0)


def test_paired_difference_is_weighted() -> None:
    generator = np.random.default_rng(0)
    y, one, other = generator.integers(0, 2, (3, 50))
    plain = compare_predictions("accuracy", y, one, other)
    np.testing.assert_allclose(compare_predictions("accuracy", y, one, other, np.full(50, 3.0)), plain, rtol=1e-12)
    weights = np.repeat([1.0, 0.0], [30, 20])
    np.testing.assert_allclose(
        compare_predictions("accuracy", y, one, other, weights),
        compare_predictions("accuracy", y[:30], one[:30], other[:30]),
        rtol=1e-12,
    )


def test_weights_count() -> None:
    targets = np.array(["a", "b"])
    predictions = np.array(["a", "a"])
    assert compute_accuracy(targets, predictions) == 0.5
    assert compute_accuracy(targets, predictions, np.array([3.0, 1.0])) == 0.75


def test_values_have_the_metrics_of_scikit_learn() -> None:
    targets = np.array([1.0, 2.0, 4.0])
    predictions = np.array([1.0, 3.0, 4.0])
    weights = np.array([1.0, 2.0, 3.0])
    assert compute_r2(targets, predictions, weights) == r2_score(targets, predictions, sample_weight=weights)
    assert compute_mean_absolute_error(targets, predictions) == pytest.approx(1 / 3)


def test_metric_is_chosen_by_name() -> None:
    class Echo:
        def predict(self, X: Any) -> Any:
            return X[:, 0]

    X = np.array([[1.0], [2.0], [4.0]])
    y = np.array([1.0, 2.0, 3.0])
    assert score_head(Echo(), X, y) == pytest.approx(2 / 3)
    assert score_head(Echo(), X, y, metric="R2") == compute_score("R2", y, X[:, 0]) == r2_score(y, X[:, 0])
