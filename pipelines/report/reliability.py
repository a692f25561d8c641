"""How sure a score is, and how far probabilities can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...heads.feature_comparison import HeldOutScores, Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..estimators.measures import Answers

N_BINS = 10


@dataclass(frozen=True)
class Bin:
    """The items whose likeliest class has a probability from `low` to `high`.

    The mean of these probabilities, `confidence`, and the share of right classes, `accuracy`, are None without items.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def measure_reliability(answers: Answers) -> list[Bin]:
    """Return bins of equal width of the probability of the likeliest class; there must be probabilities.

    The likeliest class counts whether or not the head abstains.
    """
    assert answers.probabilities is not None
    names = np.array(answers.classes, object)
    confidence = answers.probabilities.max(axis=1).astype(np.float64)
    is_right = names[answers.probabilities.argmax(axis=1)] == answers.truth
    places = np.clip((confidence * N_BINS).astype(np.intp), 0, N_BINS - 1)
    bins = []
    for number in range(N_BINS):
        inside = places == number
        n_items = int(inside.sum())
        bins.append(
            Bin(
                low=number / N_BINS,
                high=(number + 1) / N_BINS,
                n=n_items,
                confidence=float(confidence[inside].mean()) if n_items else None,
                accuracy=float(is_right[inside].mean()) if n_items else None,
            )
        )
    return bins


def compute_calibration_error(bins: list[Bin]) -> float:
    """Return the expected calibration error (Naeini et al. 2015): the mean distance of confidence and accuracy."""
    distances = [bin_.n * abs((bin_.confidence or 0.0) - (bin_.accuracy or 0.0)) for bin_ in bins]
    return sum(distances) / sum(bin_.n for bin_ in bins)


def find_accuracy_interval(is_right: NDArray[np.bool_]) -> Interval:
    """Return Wilson's confidence interval of 95 % of an accuracy, given which items are right."""
    return HeldOutScores(is_right.astype(np.float64)[None], np.ones(len(is_right))).interval()


def find_r2_interval(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> Interval | None:
    """Return a confidence interval of 95 % of R2, of several values of their mean; None if the values of one are equal.

    The variance of the values counts as known.
    """
    variances = truth.var(axis=0)
    if not np.all(variances > 0):
        return None
    shares = 1 - (truth - predicted) ** 2 / variances
    of_items = shares.reshape(len(truth), -1).mean(axis=1)
    return HeldOutScores(of_items[None], np.ones(len(of_items))).interval()
