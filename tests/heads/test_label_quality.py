"""Judged labels: changed ones are found, and what cannot be judged stays unknown."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.metrics import average_precision_score, log_loss
from topwork.heads.folds import make_folds
from topwork.heads.label_quality import (
    calibrate,
    estimate_transitions,
    find_indistinct_classes,
    judge_labels,
    predict_labels_out_of_fold,
    predict_out_of_fold,
    predict_values_out_of_fold,
)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    found = load_digits()
    return found.data.astype(np.float32), found.target.astype(np.intp)


def test_changed_labels_come_first(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    generator = np.random.default_rng(0)
    is_changed = generator.random(len(y)) < 0.05
    changed = np.where(is_changed, (y + generator.integers(1, 10, len(y))) % 10, y)
    probabilities = predict_out_of_fold(X, changed, 10, make_folds(changed, None, 5))
    judged = judge_labels(calibrate(probabilities, changed), changed)
    assert average_precision_score(is_changed, judged.wrong) > 0.9
    found = judged.wrong > 0.5
    assert is_changed[found].mean() > 0.9
    assert is_changed[found].sum() > 0.6 * is_changed.sum()
    assert (judged.best[found & is_changed] == y[found & is_changed]).mean() > 0.9


def test_the_posterior_is_bayes_rule() -> None:
    codes = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]])
    transitions = estimate_transitions(probabilities, codes)
    # Class 0 has the usual probability 0.55, class 1 0.8: rows 0, 1 and 2 count.
    np.testing.assert_allclose(transitions, np.array([[1.5, 0.5], [1.5, 1.5]]) / [[2.0], [3.0]])
    judged = judge_labels(probabilities, codes)
    joint = np.array([0.2 * 0.75, 0.8 * 0.5])
    assert judged.wrong[1] == pytest.approx(joint[1] / joint.sum())
    assert judged.best.tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(judged.given, [0.9, 0.2, 0.9, 0.7])


def test_calibration_minimises_the_log_loss(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    probabilities = predict_out_of_fold(X, y, 10, make_folds(y, None, 5))
    losses = {power: log_loss(y, normalised_power(probabilities, power)) for power in (0.5, 1.0, 1.5, 2.0, 3.0)}
    calibrated = calibrate(probabilities, y)
    assert log_loss(y, calibrated) <= min(losses.values()) + 1e-4
    assert (calibrated.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    unknown = np.full((3, 2), np.nan, np.float32)
    np.testing.assert_array_equal(calibrate(unknown, np.zeros(3, np.intp)), unknown)


def normalised_power(probabilities: np.ndarray, power: float) -> np.ndarray:
    powers = probabilities.astype(np.float64) ** power
    return powers / powers.sum(axis=1, keepdims=True)


def test_a_class_of_one_row_is_not_judged(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits[0][:200], digits[1][:200].copy()
    y[y == 9] = 8
    y[5] = 9
    judged = judge_labels(predict_out_of_fold(X, y, 10, make_folds(y, None, 5)), y)
    assert np.flatnonzero(np.isnan(judged.wrong)).tolist() == [5]


def test_one_class_is_not_judged(digits: tuple[np.ndarray, np.ndarray]) -> None:
    y = np.zeros(50, np.intp)
    assert np.isnan(predict_out_of_fold(digits[0][:50], y, 1, make_folds(y, None, 5))).all()


def test_a_class_that_was_divided_at_random_is_found(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    divided = y.copy()
    divided[(y == 4) & (np.random.default_rng(0).random(len(y)) < 0.3)] = 10
    probabilities = predict_out_of_fold(X, divided, 11, make_folds(divided, None, 5))
    ((first, second, area),) = find_indistinct_classes(probabilities, divided)
    assert (first, second) == (4, 10)
    assert 0.35 < area < 0.65


def test_several_labels_are_judged_one_by_one(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    marks = np.stack([y % 2 == 0, y > 4, np.ones(len(y), bool)], axis=1).astype(np.int64)
    probabilities = predict_labels_out_of_fold(X, marks, make_folds(y, None, 5))
    assert np.isnan(probabilities[:, 2]).all()
    assert ((probabilities[:, 0] > 0.5) == marks[:, 0]).mean() > 0.85
    single = predict_labels_out_of_fold(X, marks[:, [0, 2]], make_folds(y, None, 5))
    np.testing.assert_allclose(single[:, 0], probabilities[:, 0], atol=0.02)


def test_a_wrong_value_is_far_from_its_prediction() -> None:
    X, y = load_diabetes(return_X_y=True)
    y = y.copy()
    y[11] = 3000.0
    predicted = predict_values_out_of_fold(X, y, make_folds(y, None, 5, by_class=False))
    assert np.isfinite(predicted).all()
    assert np.abs(y - predicted).argmax() == 11
