"""Linear heads in closed form, for a path of penalties at once: the fast head by which feature matrices are compared.

Classes are predicted by linear discriminant analysis, whose covariance is shrunk towards a multiple of the identity
(Friedman 1989, "Regularized discriminant analysis"); values and several labels by ridge regression. One decomposition
of the training rows serves all penalties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .registry import CLASSIFICATION, MULTILABEL

Array = NDArray[Any]

PENALTIES = (1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""Shares of the identity in the shrunken covariance; in ridge regression, penalties relative to the mean variance."""
SMALLEST_EIGENVALUE = 1e-10
"""Directions with less than this share of the largest variance are taken as having none."""
LABEL_THRESHOLD = 0.5
"""Outputs of ridge regression from here on are the label 1."""


@dataclass(frozen=True)
class Directions:
    """Principal directions of centred rows: an orthonormal basis ``(n_features, n_directions)`` and the variances.

    `mean_variance` is that of all features.
    """

    basis: NDArray[np.float64]
    variances: NDArray[np.float64]
    mean_variance: float


def predict_held_out(X: Array, y: Array, train: Array, held: Array, task: str) -> Array:
    """Fit to the rows `train` and predict the rows `held`, for each of the :data:`PENALTIES`.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        Features, which are standardised by the training rows.
    y : ndarray of shape (n_rows,) or (n_rows, n_targets)
        Codes of classes, zeros and ones, or values.
    train, held : ndarray of int
        Positions of rows.
    task : str
        One of :data:`topwork.heads.registry.TASKS`.

    Returns
    -------
    ndarray of shape (n_penalties, n_held) or (n_penalties, n_held, n_targets)
        Predictions, of the kind of `y`.
    """
    rows = X[train].astype(np.float64)
    mean = rows.mean(axis=0)
    scale = rows.std(axis=0)
    scale[scale == 0] = 1.0
    rows = (rows - mean) / scale
    new_rows = (X[held].astype(np.float64) - mean) / scale
    if task == CLASSIFICATION:
        return discriminate(rows, y[train], new_rows)
    values = regress(rows, y[train].astype(np.float64), new_rows)
    if task == MULTILABEL:
        return (values >= LABEL_THRESHOLD).astype(y.dtype)
    return values


def discriminate(rows: Array, y: Array, new_rows: Array) -> Array:
    """Predict classes by linear discriminant analysis with several shrunken covariances."""
    classes, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    means = np.zeros((len(classes), rows.shape[1]))
    np.add.at(means, codes, rows)
    means /= counts[:, np.newaxis]
    directions = find_directions(rows - means[codes])
    priors = np.log(counts / len(y))

    # The inverse of a shrunken covariance is a multiple of the identity, and a correction in each direction.
    new_inside = new_rows @ directions.basis
    means_inside = means @ directions.basis
    products = new_rows @ means.T
    squares = (means**2).sum(axis=1)
    predictions = []
    for share in PENALTIES:
        floor = max(share * directions.mean_variance, np.finfo(np.float64).tiny)
        outside = 1.0 / floor
        correction = 1.0 / ((1 - share) * directions.variances + floor) - outside
        scores = outside * products + (new_inside * correction) @ means_inside.T
        norms = outside * squares + (means_inside**2) @ correction
        predictions.append(classes[np.argmax(scores - norms / 2 + priors, axis=1)])
    return np.stack(predictions)


def regress(rows: Array, y: Array, new_rows: Array) -> Array:
    """Predict values by ridge regression with several penalties."""
    mean = y.mean(axis=0)
    directions = find_directions(rows)
    inside = rows @ directions.basis
    covariances = inside.T @ (y - mean) / len(rows)
    new_inside = new_rows @ directions.basis
    predictions = []
    for share in PENALTIES:
        denominators = directions.variances + share * directions.mean_variance
        predictions.append(mean + (new_inside / denominators) @ covariances)
    return np.stack(predictions)


def find_directions(centred: Array) -> Directions:
    """Return the principal directions of centred rows, from the smaller of the two matrices of products."""
    n_rows, n_features = centred.shape
    mean_variance = float((centred**2).mean())
    if n_features <= n_rows:
        variances, basis = np.linalg.eigh(centred.T @ centred / n_rows)
        return Directions(basis, np.maximum(variances, 0.0), mean_variance)
    variances, rotation = np.linalg.eigh(centred @ centred.T / n_rows)
    has_variance = variances > SMALLEST_EIGENVALUE * max(variances[-1], np.finfo(np.float64).tiny)
    variances = variances[has_variance]
    basis = centred.T @ rotation[:, has_variance] / np.sqrt(variances * n_rows)
    return Directions(basis, variances, mean_variance)
