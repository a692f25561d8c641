"""Fit reports: the score of a head on the rows that it was trained on, next to its score on held-out rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, reason
from .folds import Folds, draw_splits, make_folds, select_learnable_rows
from .metrics import ACCURACY, score_head

Array = NDArray[Any]

MAX_GAP = 0.1
"""Difference of the scores above which a head is reported to overfit."""
MIN_ROWS_FOR_SINGLE_SPLIT = 5000
"""From so many rows on, one fifth is held out once: its score is precise enough, and more fits would take long."""


@dataclass(frozen=True)
class FitReport:
    """How well a head fits its training rows, and how well it generalises.

    Parameters
    ----------
    metric : {"accuracy", "R2"}
        The share of rows that are predicted correctly, with all of their labels; or the coefficient of determination.
    training : float
        Score on the rows that were trained on.
    held_out : float
        Score on held-out rows, by heads that were not trained on them: the mean over folds.
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
        """The training score minus the held-out score."""
        return self.training - self.held_out

    @property
    def gap_is_large(self) -> bool:
        """Whether the head overfits."""
        return self.gap > MAX_GAP

    def __str__(self) -> str:
        how = "on held-out rows"
        if self.spread is not None:
            how = f"± {self.spread:.3f} in {self.n_folds} folds"
        scores = f"{self.metric} {self.training:.3f} in training, {self.held_out:.3f} {how}"
        if not self.gap_is_large:
            return scores
        return (
            f"{scores}\nthe gap of {self.gap:.2f} is large: the head overfits its training rows. "
            "More labels, a stronger penalty or fewer features help."
        )


def fit_report(
    head: Any,
    fit: Callable[[Array], Any],
    X: Array,
    y: Array,
    *,
    groups: Any = None,
    n_folds: int = 5,
    metric: str = ACCURACY,
    weights: Array | None = None,
    min_rows_for_single_split: int = MIN_ROWS_FOR_SINGLE_SPLIT,
) -> FitReport | None:
    """Score a fitted head on its training rows and on held-out rows; None if no row can be held out.

    Raise an InputError if no fold can be trained on, with the first fold's reason.

    The scores of a head that has chosen its penalty by cross-validation are those of its own folds. `fit` returns a new
    head that is fitted on some rows, given as integers. With 0 folds nothing is scored; from
    `min_rows_for_single_split` rows on, one fifth is held out once, instead of in folds.
    """
    if n_folds < 2:
        return None
    scores = find_known_scores(head)
    if scores is None:
        by_class = metric == ACCURACY and y.ndim == 1
        if len(y) < min_rows_for_single_split:
            folds = make_folds(y, groups, n_folds=n_folds, by_class=by_class)
        else:
            folds = draw_splits(y, groups, n_draws=1, test_size=0.2, random_state=0, by_class=by_class)
        scores = score_folds(fit, X, y, folds=folds, metric=metric, weights=weights)
    if not len(scores):
        return None
    return FitReport(
        metric=metric,
        training=score_head(head, X, y, metric=metric, weights=weights),
        held_out=float(np.mean(scores)),
        spread=float(np.std(scores)) if len(scores) > 1 else None,
        n_folds=len(scores),
    )


def find_known_scores(head: Any) -> Array | None:
    """Return the accuracy in each fold that a head has of itself: one that chose itself, or its penalty.

    None for other heads, for several labels of a head that chose itself, and with ``class_weight``: the accuracies are
    weighted by it.
    """
    if getattr(head, "class_weight", None) is not None:
        return None
    own_scores: Array | None = getattr(head, "fold_scores_", None)
    if own_scores is not None:
        return own_scores if len(own_scores) else None
    results = getattr(head, "cv_results_", None)
    if not isinstance(results, dict) or "accuracy" not in results or not hasattr(head, "C_"):
        return None
    chosen = int(np.flatnonzero(results["C"] == head.C_)[0])
    scores: Array = results["accuracy"][chosen]
    return scores[~np.isnan(scores)]


def score_folds(
    fit: Callable[[Array], Any], X: Array, y: Array, *, folds: Folds, metric: str, weights: Array | None
) -> Array:
    """Score held-out rows by heads that are fitted on the other rows.

    Held-out rows of classes that are not trained on are left out, as are folds in which nothing can be learned. If the
    head learns in no fold, raise an InputError.
    """
    if weights is not None:
        folds = [(train[weights[train] > 0], held[weights[held] > 0]) for train, held in folds]
    if metric == ACCURACY and y.ndim == 1:
        folds = [
            (train, select_learnable_rows(y, train, held)) for train, held in folds if len(np.unique(y[train])) > 1
        ]
    scores = []
    failures: list[ValueError] = []
    for train, held in folds:
        if not len(train) or not len(held):
            continue
        held_weights = None if weights is None else weights[held]
        try:
            scores.append(score_head(fit(train), X[held], y[held], metric=metric, weights=held_weights))
        except ValueError as error:  # a fold may have too few rows for a head for which all rows are enough
            failures.append(error)
    if failures and not scores:
        raise InputError(f"no fold can be trained on: {reason(failures[0])}") from failures[0]
    return np.array(scores)
