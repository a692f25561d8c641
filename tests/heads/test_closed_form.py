"""Linear heads in closed form, compared with scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from topwork.heads.feature_comparison import LABEL_THRESHOLD, PENALTIES, predict_held_out
from topwork.heads.registry import CLASSIFICATION, MULTILABEL, REGRESSION

Array = NDArray[Any]


def widened(X: Array, n_features: int) -> Array:
    """Return more features than rows: products of pairs."""
    products = [X[:, i] * X[:, j] for i in range(X.shape[1]) for j in range(i, X.shape[1])]
    return np.stack(products[:n_features], axis=1).astype(np.float32)


@pytest.mark.parametrize("is_wide", [False, True], ids=["more rows", "more features"])
def test_classes_are_those_of_shrunken_discriminant_analysis(is_wide: bool) -> None:
    X, y = load_wine(return_X_y=True)
    X = widened(X, 90) if is_wide else X
    order = np.random.default_rng(0).permutation(len(y))
    train, held = (order[:60], order[60:]) if is_wide else (order[:100], order[100:])
    found = predict_held_out(X, y, train, held, CLASSIFICATION)
    scaler = StandardScaler().fit(X[train].astype(np.float64))
    for share, predictions in zip(PENALTIES, found, strict=True):
        expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=share)
        expected.fit(scaler.transform(X[train].astype(np.float64)), y[train])
        np.testing.assert_array_equal(predictions, expected.predict(scaler.transform(X[held].astype(np.float64))))


@pytest.mark.parametrize("is_wide", [False, True], ids=["more rows", "more features"])
def test_values_are_those_of_ridge_regression(is_wide: bool) -> None:
    X, y = load_diabetes(return_X_y=True)
    X = widened(X, 55) if is_wide else X
    targets = np.stack([y, np.sqrt(y)], axis=1)
    train, held = (np.arange(40), np.arange(40, 442)) if is_wide else (np.arange(300), np.arange(300, 442))
    found = predict_held_out(X, targets, train, held, REGRESSION)
    scaler = StandardScaler().fit(X[train].astype(np.float64))
    rows, new_rows = scaler.transform(X[train].astype(np.float64)), scaler.transform(X[held].astype(np.float64))
    for share, predictions in zip(PENALTIES, found, strict=True):
        expected = Ridge(alpha=share * len(train)).fit(rows, targets[train]).predict(new_rows)
        np.testing.assert_allclose(predictions, expected, rtol=1e-6)
    labels = (targets > np.median(targets, axis=0)).astype(np.int64)
    values = predict_held_out(X, labels.astype(np.float64), train, held, REGRESSION)
    found_labels = predict_held_out(X, labels, train, held, MULTILABEL)
    np.testing.assert_array_equal(found_labels, values >= LABEL_THRESHOLD)


def test_constant_features_and_single_rows_of_classes_are_no_obstacle() -> None:
    X = np.array([[0, 1, 5], [0, 2, 5], [0, 7, 5], [0, 8, 5]], np.float32)
    found = predict_held_out(X, np.array([0, 0, 1, 1]), np.array([0, 2]), np.array([1, 3]), CLASSIFICATION)
    np.testing.assert_array_equal(found, [[0, 1]] * len(PENALTIES))
