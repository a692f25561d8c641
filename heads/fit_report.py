"""What a head scores on the rows that it learned from, beside what it scores on rows that it never saw."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

from ..errors import InputError
from .folds import Folds, folds_of, learnable

Array = NDArray[Any]
Fit = Callable[[Array], Any]
"""Returns a new head, fitted on some rows."""

LARGE_GAP = 0.1
MANY_ROWS = 5000
"""From so many rows on, one fifth of them is held out once: its score is sure enough, and other fits cost time."""


@dataclass(frozen=True)
class FitReport:
    """How well a head has learned, and how well it generalises.

    Parameters
    ----------
    metric : {"accuracy", "R2"}
        The share of rows that are right, with all of their labels; or the coefficient of determination.
    training : float
        On the rows that were trained on.
    held_out : float
        On rows that were held out, by heads that never saw them: the mean over folds.
    spread : float or None
        Standard deviation over folds, if there are several.
    n_folds : int
    """

    metric: str
    training: float
    held_out: float
    spread: float | None
    n_folds: int

    @property
    def gap(self) -> float:
        """How much worse rows are that were held out."""
        return self.training - self.held_out

    @property
    def gap_is_large(self) -> bool:
        """Whether the head has learned its rows by heart rather than what they have in common."""
        return self.gap > LARGE_GAP

    def __str__(self) -> str:
        folds = "on rows that were held out" if self.spread is None else f"± {self.spread:.3f} in {self.n_folds} folds"
        told = f"{self.metric} {self.training:.3f} in training, {self.held_out:.3f} {folds}"
        if not self.gap_is_large:
            return told
        return (
            f"{told}\nthe gap of {self.gap:.2f} is large: the head knows these rows better than what they have in "
            "common. More labels, a stronger penalty or fewer features help."
        )


def fit_report(
    head: Any,
    fit: Fit,
    X: Array,
    y: Array,
    groups: Any = None,
    n_folds: int = 5,
    metric: str = "accuracy",
    weights: Array | None = None,
) -> FitReport | None:
    """Judge a fitted head; one that chose its penalty by cross-validation has done so already.

    Parameters
    ----------
    head : estimator
        Fitted on all rows.
    fit : callable
    X : ndarray of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,) or (n_rows, n_targets)
    groups : array of shape (n_rows,), optional
        Rows of a group are held out together.
    n_folds : int
        From 5,000 rows on one fifth is held out once instead; with 0 nothing is judged.
    metric : {"accuracy", "R2"}
    weights : ndarray of shape (n_rows,), optional

    Returns
    -------
    FitReport or None
        None if no row can be held out.
    """
    if n_folds < 2:
        return None
    scores = _known_scores(head)
    if scores is None:
        scores = _scores(fit, X, y, _folds(y, groups, n_folds, metric), metric, weights)
    if not len(scores):
        return None
    spread = float(np.std(scores)) if len(scores) > 1 else None
    return FitReport(metric, score(head, X, y, metric, weights), float(np.mean(scores)), spread, len(scores))


def _known_scores(head: Any) -> Array | None:
    """Return the accuracy in each fold that a sweep found for its choice."""
    results = getattr(head, "cv_results_", None)
    if not isinstance(results, dict) or "accuracy" not in results or not hasattr(head, "C_"):
        return None
    if getattr(head, "class_weight", None) is not None:  # its accuracy is of classes with weights
        return None
    scores: Array = results["accuracy"][int(np.flatnonzero(results["C"] == head.C_)[0])]
    return scores[~np.isnan(scores)]


def _folds(y: Array, groups: Any, n_folds: int, metric: str) -> Folds:
    by_class = metric == "accuracy" and y.ndim == 1
    if len(y) < MANY_ROWS:
        return folds_of(y, groups, n_folds, by_class)
    stratified = by_class and groups is None and int(np.unique(y, return_counts=True)[1].min()) > 1
    splitter: Any = StratifiedShuffleSplit if stratified else ShuffleSplit if groups is None else GroupShuffleSplit
    return list(splitter(1, test_size=0.2, random_state=0).split(X=np.zeros((len(y), 1)), y=y, groups=groups))


def _scores(fit: Fit, X: Array, y: Array, folds: Folds, metric: str, weights: Array | None) -> Array:
    found = []
    for train, held in folds:
        if weights is not None:
            train, held = train[weights[train] > 0], held[weights[held] > 0]
        judged = learnable(y, train, held) if metric == "accuracy" and y.ndim == 1 else held
        if len(train) and len(judged) and (metric != "accuracy" or y.ndim > 1 or len(np.unique(y[train])) > 1):
            shares = None if weights is None else weights[judged]
            with suppress(InputError):  # what all rows were enough for, those of a fold may not be
                found.append(score(fit(train), X[judged], y[judged], metric, shares))
    return np.array(found)


def score(head: Any, X: Array, y: Array, metric: str, weights: Array | None = None) -> float:
    """Return what a fitted head scores on rows.

    Parameters
    ----------
    head : estimator
    X : ndarray of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,) or (n_rows, n_targets)
    metric : {"accuracy", "R2"}
    weights : ndarray of shape (n_rows,), optional
    """
    predicted = np.asarray(head.predict(X))
    if metric == "accuracy":
        right = predicted == y
        return float(np.average(right if y.ndim == 1 else right.all(axis=1), weights=weights))
    from sklearn.metrics import r2_score

    return float(r2_score(y, predicted, sample_weight=weights))
