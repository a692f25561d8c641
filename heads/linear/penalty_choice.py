"""The choice of a penalty by the scores of held-out rows, and when weaker penalties are not worth fitting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..metrics import compute_standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDING = 1e-9
"""A single row that is predicted otherwise makes a difference of exactly one standard error."""
N_PENALTIES_BEHIND = 2
"""So many penalties in a row score worse than the best before a race is over."""
MAX_LOSS_SHARE_OF_FIRST = 0.5
"""While the loss still falls and is above this share of the strongest penalty's, scores tell nothing yet."""


def is_race_over(scores: NDArray[np.float64], losses: NDArray[np.float64]) -> bool:
    """Check whether the last penalties score beyond one standard error of the best, so that weaker ones are hopeless.

    `scores` and `losses` are ``(n_penalties, n_folds)``, of penalties from strong to weak.
    """
    n_penalties, n_folds = scores.shape
    if n_folds < 2:
        return False
    mean_scores = scores.mean(axis=1)
    best = int(mean_scores.argmax())
    if best >= n_penalties - N_PENALTIES_BEHIND:
        return False
    mean_losses = losses.mean(axis=1)
    is_loss_falling = mean_losses[-1] == mean_losses.min()
    if is_loss_falling and mean_losses[-1] > MAX_LOSS_SHARE_OF_FIRST * mean_losses[0]:
        return False
    lowest = mean_scores[best] - compute_standard_error(scores[best])
    return bool((mean_scores[-N_PENALTIES_BEHIND:] < lowest).all())


def choose_penalty(scores: NDArray[np.float64], losses: NDArray[np.float64], selection: str) -> int:
    """Return the number of the penalty with the best score, or of the strongest within a standard error of it.

    Of penalties whose difference to the highest score is within its standard error, the best is that with the lowest
    loss: of few rows one decides between accuracies, and another order of the rows decides otherwise.
    """
    mean_scores = scores.mean(axis=1)
    mean_losses = losses.mean(axis=1)
    is_equal = are_equal_to_best(scores)
    best = int(np.flatnonzero(is_equal)[mean_losses[is_equal].argmin()])
    if selection == "best" or scores.shape[1] == 1:
        return best
    is_close = mean_scores >= mean_scores[best] - compute_standard_error(scores[best])
    return int(np.flatnonzero(is_close)[0])


def are_equal_to_best(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Check which penalties score within one standard error of the paired difference to the best."""
    differences = scores[scores.mean(axis=1).argmax()] - scores  # (n_penalties, n_folds)
    is_equal: NDArray[np.bool_] = differences.mean(axis=1) <= compute_standard_error(differences) * (1 + ROUNDING)
    return is_equal
