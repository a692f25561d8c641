"""Linear heads in closed form, for several penalties at once, to compare them or features by held-out rows.

The predictions are those of scikit-learn's estimators on standardised features: ``LinearDiscriminantAnalysis`` with the
solver "lsqr" and a fixed shrinkage (Friedman 1989, "Regularized discriminant analysis"), ``RidgeClassifier`` and
``Ridge``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from .standardisation import MeanVariance

Array = NDArray[Any]
FloatArray = NDArray[np.float64]


def predict_discriminant(
    X: Array, codes: Array, *, train: Array, held: Array, shrinkages: Sequence[float]
) -> list[Array]:
    """Return the codes that discriminant analysis predicts for held-out rows, for each shrinkage."""
    rows, new_rows, n_features = standardise_fold(X, train, held)
    classes, own_codes, counts = np.unique(codes[train], return_inverse=True, return_counts=True)
    means = sum_by_class(rows, own_codes, len(classes)) / counts[:, None]  # (n_classes, rank)
    within = rows - means[own_codes]
    covariance = within.T @ within / len(rows)
    mean_variance = covariance.trace() / n_features
    predictions = []
    for shrinkage in shrinkages:
        shrunk = add_to_diagonal((1 - shrinkage) * covariance, shrinkage * mean_variance)
        weights = cho_solve(cho_factor(shrunk, overwrite_a=True), means.T)  # (rank, n_classes)
        intercepts = np.log(counts / len(rows)) - np.einsum("ij,ji->i", means, weights) / 2
        predictions.append(classes[(new_rows @ weights + intercepts).argmax(axis=1)])
    return predictions


def predict_ridge(X: Array, codes: Array, *, train: Array, held: Array, penalties: Sequence[float]) -> list[Array]:
    """Return the codes that ridge classification predicts for held-out rows, for each penalty."""
    classes, own_codes = np.unique(codes[train], return_inverse=True)
    targets = 2.0 * (own_codes[:, None] == np.arange(len(classes))) - 1.0
    rows, new_rows, _ = standardise_fold(X, train, held)
    return [classes[values.argmax(axis=1)] for values in solve_ridge(rows, targets, new_rows, penalties)]


def predict_values(X: Array, y: Array, *, train: Array, held: Array, penalties: Sequence[float]) -> list[FloatArray]:
    """Return the values ``(n_held,)`` or ``(n_held, n_targets)`` that ridge regression predicts, for each penalty."""
    rows, new_rows, _ = standardise_fold(X, train, held)
    return solve_ridge(rows, y[train].astype(np.float64), new_rows, penalties)


def solve_ridge(
    rows: FloatArray, targets: FloatArray, new_rows: FloatArray, penalties: Sequence[float]
) -> list[FloatArray]:
    """Return the values of new rows for each penalty, given centred rows."""
    mean = targets.mean(axis=0)
    gram = rows.T @ rows
    sums = rows.T @ (targets - mean)
    predictions = []
    for penalty in penalties:
        weights = cho_solve(cho_factor(add_to_diagonal(gram, penalty), overwrite_a=True), sums)
        predictions.append(mean + new_rows @ weights)
    return predictions


def standardise_fold(X: Array, train: Array, held: Array) -> tuple[FloatArray, FloatArray, int]:
    """Return training and held-out rows, standardised by the former, and the number of features.

    If there are more features than training rows, the rows are coordinates in the space that the latter span.
    """
    rows = X[train].astype(np.float64)
    moments = MeanVariance.of(rows, np.ones(len(rows)))
    rows = (rows - moments.mean) / moments.scale
    new_rows = (X[held].astype(np.float64) - moments.mean) / moments.scale
    n_features = X.shape[1]
    if n_features > len(train):
        basis = np.linalg.qr(rows.T)[0]  # (n_features, n_train)
        return rows @ basis, new_rows @ basis, n_features
    return rows, new_rows, n_features


def sum_by_class(rows: FloatArray, codes: Array, n_classes: int) -> FloatArray:
    """Return the sums of the rows of each class, ``(n_classes, n_columns)``."""
    indicators = np.zeros((n_classes, len(rows)))
    indicators[codes, np.arange(len(rows))] = 1.0
    sums: FloatArray = indicators @ rows
    return sums


def add_to_diagonal(matrix: FloatArray, value: float) -> FloatArray:
    """Return a copy of a square matrix with a number added to its diagonal, and never singular."""
    result = matrix.copy()
    smallest = np.finfo(np.float64).eps * len(matrix) * max(float(matrix.diagonal().max()), 1.0)
    result.flat[:: len(matrix) + 1] += max(value, smallest)
    return result
