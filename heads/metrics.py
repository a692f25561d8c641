"""Metrics of predictions: accuracy for labels, the coefficient of determination for values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ACCURACY = "accuracy"
R2 = "R2"


def are_correct(targets: Array, predictions: Array) -> NDArray[np.bool_]:
    """Check which rows are predicted correctly; a row of several labels is if all of them are.

    Labels are compared by value. A prediction of None (no answer) is never correct.
    """
    is_correct: NDArray[np.bool_]
    if targets.ndim == 2:
        is_correct = (targets == predictions).all(axis=1)
    elif targets.dtype.kind == predictions.dtype.kind != "O":
        is_correct = targets == predictions
    else:  # numpy compares neither text with numbers nor tuples element by element
        pairs = zip(targets.tolist(), predictions.tolist(), strict=True)
        is_correct = np.array([target == prediction for target, prediction in pairs], bool)
    return is_correct


def compute_accuracy(targets: Array, predictions: Array, weights: Array | None = None) -> float:
    """Compute the share of rows that are predicted correctly, see :func:`are_correct`."""
    return float(np.average(are_correct(targets, predictions), weights=weights))


def compute_r2(targets: Array, predictions: Array, weights: Array | None = None) -> float:
    """Compute the coefficient of determination, averaged over targets."""
    from sklearn.metrics import r2_score

    return float(r2_score(targets, predictions, sample_weight=weights))


def compute_mean_absolute_error(targets: Array, predictions: Array) -> float:
    """Compute the mean absolute difference of values and their predictions."""
    return float(np.abs(targets - predictions).mean())


def compute_score(metric: str, targets: Array, predictions: Array, weights: Array | None = None) -> float:
    """Compute a metric by its name, "accuracy" or "R2"."""
    compute = compute_accuracy if metric == ACCURACY else compute_r2
    return compute(targets, predictions, weights)


def compare_predictions(
    metric: str, targets: Array, predictions: Array, baseline: Array, weights: Array | None = None
) -> tuple[float, float]:
    """Return the score of predictions less that of a baseline, and the standard error of this paired difference.

    The difference is a mean over rows, which may be weighted: of right predictions, or of squared errors in units of
    the targets' variance (of several targets their mean).
    """
    if metric == ACCURACY:
        gains = are_correct(targets, predictions).astype(float) - are_correct(targets, baseline)
    else:
        variances = targets.var(axis=0)
        squares = ((targets - baseline) ** 2 - (targets - predictions) ** 2) / np.where(variances > 0, variances, 1.0)
        gains = squares.reshape(len(targets), -1).mean(axis=1)
    if weights is None:
        return float(gains.mean()), float(compute_standard_error(gains))
    shares = weights / weights.sum(dtype=np.float64)
    gain = float(shares @ gains)
    correction = 1 - float(shares @ shares)  # of equal weights (n - 1) / n
    return gain, float(np.sqrt(shares**2 @ (gains - gain) ** 2 / max(correction, np.finfo(float).tiny)))


def score_head(head: Any, X: Array, y: Array, metric: str = ACCURACY, weights: Array | None = None) -> float:
    """Compute a metric of a fitted head's predictions, see :func:`compute_score`."""
    predictions = np.asarray(head.predict(X))
    return compute_score(metric, targets=y, predictions=predictions, weights=weights)


def compute_standard_error(scores: NDArray[Any]) -> Any:
    """Return the standard error of the mean over folds, which are the last axis; zero for a single fold."""
    n_folds = scores.shape[-1]
    if n_folds == 1:
        return np.zeros(scores.shape[:-1])
    return scores.std(axis=-1, ddof=1) / np.sqrt(n_folds)
