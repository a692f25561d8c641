"""Which of several feature matrices of the same rows a head learns most from, by rows that are held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .closed_form import predict_discriminant, predict_values
from .folds import Folds, make_folds, select_learnable_rows
from .parallel import run_all
from .registry import CLASSIFICATION, MULTILABEL, REGRESSION

Array = NDArray[Any]
Matrices = Mapping[str, Array]
"""Features of the same rows by name."""

PENALTIES = (1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""Shares of the identity in the shrunken covariance; in ridge regression, penalties for each row."""
LABEL_THRESHOLD = 0.5
"""Values of ridge regression from here on are the label 1."""
N_FOLDS = 5
N_RESAMPLES = 500
FIRST_ROWS = 750
"""Rows by which hopeless candidates are dropped first; those that are left get four times as many, and so on."""
GROWTH = 4
ROWS_TO_JUDGE = 1500
"""With fewer rows, these are divided into folds several times, at most :data:`MAX_PARTITIONS`."""
MAX_PARTITIONS = 5
MIN_ROWS_OF_CLASS = 5
"""Rows of a class, on average, with which a comparison begins."""
HOPELESS = 3.0
"""Standard errors of the difference to the best, beyond which a candidate is dropped before all rows are used."""
MOST_GIVEN_AWAY = 0.01
"""Largest difference to the best score that a cheaper candidate may have, even where the standard error is larger."""
NORMAL_QUANTILE = 1.96
"""Of a confidence interval of 95 %."""


class Interval(NamedTuple):
    """A confidence interval of 95 %."""

    low: float
    high: float


@dataclass(frozen=True)
class HeldOutScores:
    """What held-out units of rows contribute to the score of one feature matrix, for each penalty of the head.

    Parameters
    ----------
    sums : ndarray of float64, shape (n_penalties, n_units)
        Sum over the rows of a unit; a unit is a group of rows, or one row.
    sizes : ndarray of float64, shape (n_units,)
        Rows of each unit.
    """

    sums: NDArray[np.float64]
    sizes: NDArray[np.float64]

    @property
    def best_penalty(self) -> int:
        """Position of the penalty with the highest score."""
        return int(self.sums.sum(axis=1).argmax())

    @property
    def best_sums(self) -> NDArray[np.float64]:
        """Contributions with that penalty, of shape (n_units,)."""
        sums: NDArray[np.float64] = self.sums[self.best_penalty]
        return sums

    @property
    def score(self) -> float:
        """The highest score: accuracy, or R2."""
        return float(self.best_sums.sum() / self.sizes.sum())

    @property
    def n_rows(self) -> int:
        """Number of rows that were held out."""
        return int(self.sizes.sum())

    def interval(self) -> Interval:
        """Return the confidence interval of the score: Wilson's of a share, with the variance that groups have.

        A score that is no share, as R2 may be below zero, has the interval of a normal distribution.
        """
        score = self.score
        variance = estimate_variance(self.best_sums, self.sizes)
        if not 0.0 <= score <= 1.0 or (variance == 0.0 and 0.0 < score < 1.0):
            margin = NORMAL_QUANTILE * variance**0.5
            return Interval(score - margin, score + margin)
        n_units = float(len(self.sizes)) if variance == 0.0 else score * (1 - score) / variance
        square = NORMAL_QUANTILE**2
        centre = (score + square / (2 * n_units)) / (1 + square / n_units)
        spread = (score * (1 - score) / n_units + square / (4 * n_units**2)) ** 0.5
        margin = NORMAL_QUANTILE * spread / (1 + square / n_units)
        return Interval(centre - margin, min(centre + margin, 1.0))


@dataclass(frozen=True)
class Choice:
    """Which candidate is the best, and which is the cheapest that is as good.

    `differences` are the scores less that of the best, `errors` the standard errors of these paired differences.
    """

    best: str
    chosen: str
    differences: dict[str, float]
    errors: dict[str, float]


def compare_features(
    matrices: Matrices, y: Array, task: str, groups: Any = None, n_folds: int = N_FOLDS
) -> dict[str, HeldOutScores]:
    """Cross-validate a head on each of several feature matrices, all on the same folds.

    The head is a discriminant analysis, or for several labels and values ridge regression, with the best of seven
    penalties, see :mod:`topwork.heads.closed_form`. Candidates that are hopeless on a share of the rows, by more
    than three standard errors of the difference to the best, keep the scores that they have there (successive halving,
    Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943).

    Parameters
    ----------
    matrices : mapping of str to ndarray of shape (n_rows, n_features)
        The candidates.
    y : ndarray of shape (n_rows,) or (n_rows, n_targets)
        Labels, zeros and ones, or values.
    task : str
        One of :data:`topwork.heads.registry.TASKS`.
    groups : ndarray of shape (n_rows,), optional
        Rows of a group are held out together.
    n_folds : int
        Number of folds.

    Returns
    -------
    dict of str to HeldOutScores
        In the order of the matrices.

    Raises
    ------
    InputError
        If no row can be held out.
    """
    targets = np.unique(y, return_inverse=True)[1] if task == CLASSIFICATION else y
    found: dict[str, HeldOutScores] = {}
    names = list(matrices)
    for rows in draw_growing_samples(targets, task, groups):
        own_groups = None if groups is None else groups[rows]
        partitions = draw_partitions(targets[rows], own_groups, n_folds, by_class=task == CLASSIFICATION)
        if not partitions[0]:
            raise InputError(
                f"no row of {len(rows)} can be held out, as each class or all rows are of a single row or group; "
                "expected at least two rows of a class"
            )
        own_targets = targets[rows]
        tasks = ((matrices[name], rows, own_targets, partitions, task) for name in names)
        for name, (contributions, judged) in zip(names, run_all(score_sample, tasks), strict=True):
            found[name] = sum_by_unit(contributions, None if own_groups is None else own_groups[judged])
        names = drop_hopeless({name: found[name] for name in names})
    return {name: found[name] for name in matrices}


def score_sample(
    X: Array, rows: NDArray[np.intp], targets: Array, partitions: Sequence[Folds], task: str
) -> tuple[Array, Array]:
    """Return what :func:`score_held_out_rows` returns for some rows of a matrix, whose targets are given."""
    return score_held_out_rows(X[rows], targets, partitions, task)


def draw_growing_samples(y: Array, task: str, groups: Any) -> list[NDArray[np.intp]]:
    """Return rows of samples, each several times as large as the one before and containing it; the last are all rows.

    With groups there is one sample, as small ones would divide them.
    """
    n_rows = len(y)
    n_classes = len(np.unique(y)) if task == CLASSIFICATION else 1
    size = max(FIRST_ROWS, MIN_ROWS_OF_CLASS * n_classes)
    order = np.random.default_rng(0).permutation(n_rows)
    samples = []
    while groups is None and size * 2 <= n_rows:
        samples.append(np.sort(order[:size]))
        size *= GROWTH
    return [*samples, np.arange(n_rows)]


def draw_partitions(y: Array, groups: Any, n_folds: int, *, by_class: bool) -> list[Folds]:
    """Divide rows into folds, few rows several times, each time in another order."""
    n_partitions = min(max(ROWS_TO_JUDGE // len(y), 1), MAX_PARTITIONS)
    generator = np.random.default_rng(0)
    partitions = []
    for _ in range(n_partitions):
        order = generator.permutation(len(y))
        own_groups = None if groups is None else groups[order]
        folds = make_folds(y[order], own_groups, n_folds, by_class=by_class)
        partitions.append([(order[train], order[held]) for train, held in folds])
    return partitions


def score_held_out_rows(X: Array, y: Array, partitions: Sequence[Folds], task: str) -> tuple[Array, Array]:
    """Return what each row contributes to the score when it is held out ``(n_penalties, n_judged)``, and which rows.

    Their mean is the accuracy or R2. Rows are judged if they are held out, and their class can be learned; a row has
    the mean of all partitions in which it is.
    """
    totals: NDArray[np.float64] = np.zeros((len(PENALTIES), len(y)))
    counts = np.zeros(len(y))
    for train, held in chain.from_iterable(partitions):
        judged = select_learnable_rows(y, train, held) if task == CLASSIFICATION else held
        if len(judged):
            predictions = predict_held_out(X, y, train, judged, task)
            totals[:, judged] += rate_predictions(predictions, y, judged, task)
            counts[judged] += 1
    judged_rows = np.flatnonzero(counts)
    return totals[:, judged_rows] / counts[judged_rows], judged_rows


def predict_held_out(X: Array, y: Array, train: Array, held: Array, task: str) -> Array:
    """Return what a head predicts for held-out rows, ``(n_penalties, n_held)`` or with a further axis of targets."""
    if task == CLASSIFICATION:
        return np.stack(predict_discriminant(X, y, train=train, held=held, shrinkages=PENALTIES))
    penalties = [penalty * len(train) for penalty in PENALTIES]
    values = np.stack(predict_values(X, y, train=train, held=held, penalties=penalties))
    return (values >= LABEL_THRESHOLD).astype(y.dtype) if task == MULTILABEL else values


def rate_predictions(predictions: Array, y: Array, rows: Array, task: str) -> Array:
    """Return what the predictions of some rows contribute to the score, of shape (n_penalties, n_rows)."""
    targets = y[rows]
    if task == REGRESSION:
        variance = np.maximum(y.var(axis=0), np.finfo(np.float64).tiny)
        values = 1.0 - (predictions - targets) ** 2 / variance
        rated: Array = values.reshape(len(predictions), len(rows), -1).mean(axis=2)
    else:
        rated = (predictions == targets).reshape(len(predictions), len(rows), -1).all(axis=2)
    return rated


def sum_by_unit(contributions: Array, groups: Any) -> HeldOutScores:
    """Return the contributions of rows, summed over those of a group."""
    n_rows = contributions.shape[1]
    if groups is None:
        return HeldOutScores(contributions, np.ones(n_rows))
    unit_of_row = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(unit_of_row).astype(np.float64)
    sums: NDArray[np.float64] = np.stack([np.bincount(unit_of_row, weights=values) for values in contributions])
    return HeldOutScores(sums, sizes)


def drop_hopeless(scores: Mapping[str, HeldOutScores]) -> list[str]:
    """Return the names of the candidates that may still turn out to be the best."""
    differences, errors = compare_with_best(stack_best(scores), next(iter(scores.values())).sizes)
    pairs = zip(scores, differences, errors, strict=True)
    return [name for name, difference, error in pairs if difference >= -HOPELESS * error]


def stack_best(scores: Mapping[str, HeldOutScores]) -> NDArray[np.float64]:
    """Return the contributions of units with the best penalty of each candidate, of shape (n_candidates, n_units)."""
    return np.stack([found.best_sums for found in scores.values()])


def compare_with_best(sums: Array, sizes: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Return the score of each candidate less that of the best, and the standard error of this paired difference.

    `sums` has shape (n_candidates, n_units); a unit with a weight of 2 counts as two.
    """
    counts = np.ones(len(sizes)) if weights is None else weights
    n_rows = counts @ sizes
    scores = sums @ counts / n_rows
    paired = sums - sums[scores.argmax()]
    differences = scores - scores.max()
    deviations = paired - differences[:, np.newaxis] * sizes
    errors = np.sqrt(deviations**2 @ counts) / n_rows
    return differences, errors


def estimate_variance(sums: Array, sizes: Array) -> float:
    """Estimate the variance of a score from the contributions of units."""
    deviations = sums - sums.sum() / sizes.sum() * sizes
    return float((deviations**2).sum() / sizes.sum() ** 2)


def compare_scores(one: HeldOutScores, other: HeldOutScores) -> tuple[float, float]:
    """Return by how much one score is higher than another of the same units, and the standard error of that."""
    paired = one.best_sums - other.best_sums
    difference = float(paired.sum() / one.sizes.sum())
    return difference, estimate_variance(paired, one.sizes) ** 0.5


def choose_features(scores: Mapping[str, HeldOutScores], cost: Callable[[str], Any]) -> Choice:
    """Choose the cheapest of the candidates that were judged by all rows and are as good as the best.

    As good means that the paired difference to the best is within one standard error, and at most one point.

    Parameters
    ----------
    scores : mapping of str to HeldOutScores
        As :func:`compare_features` returns them.
    cost : callable
        Returns the cost of a candidate by its name; of equally cheap ones the better is chosen.

    Returns
    -------
    Choice
        Its differences and errors are those of the candidates that were judged by all rows.
    """
    finalists = select_finalists(scores)
    names = list(finalists)
    sums = stack_best(finalists)
    sizes = finalists[names[0]].sizes
    differences, errors = compare_with_best(sums, sizes)
    chosen = choose_cheapest(differences, errors, [cost(name) for name in names])
    return Choice(
        best=names[int(differences.argmax())],
        chosen=names[chosen],
        differences=dict(zip(names, differences.tolist(), strict=True)),
        errors=dict(zip(names, errors.tolist(), strict=True)),
    )


def select_finalists(scores: Mapping[str, HeldOutScores]) -> dict[str, HeldOutScores]:
    """Return the candidates that were judged by all rows."""
    most = max(found.n_rows for found in scores.values())
    return {name: found for name, found in scores.items() if found.n_rows == most}


def choose_cheapest(differences: Array, errors: Array, costs: Sequence[Any]) -> int:
    """Return the position of the cheapest candidate that is as good as the best."""
    margins = np.minimum(errors, MOST_GIVEN_AWAY)
    eligible = [place for place in range(len(costs)) if differences[place] >= -margins[place]]
    return min(eligible, key=lambda place: (costs[place], -differences[place]))


def estimate_choice(
    scores: Mapping[str, HeldOutScores], cost: Callable[[str], Any], n_resamples: int = N_RESAMPLES
) -> tuple[float, Interval]:
    """Estimate the score of the chosen features by rows that took no part in choosing them.

    In each of several bootstrap samples of the held-out contributions, penalties and features are chosen by the units
    that were drawn, and scored by those that were not (BBC-CV, Tsamardinos, Greasidou and Borboudakis 2018,
    https://doi.org/10.1007/s10994-018-5714-4).

    Parameters
    ----------
    scores : mapping of str to HeldOutScores
        As :func:`compare_features` returns them.
    cost : callable
        As for :func:`choose_features`.
    n_resamples : int
        Number of bootstrap samples.

    Returns
    -------
    score : float
        Mean over the samples.
    interval : Interval
        Percentiles of the samples, 2.5 and 97.5.
    """
    finalists = select_finalists(scores)
    costs = [cost(name) for name in finalists]
    sizes = next(iter(finalists.values())).sizes
    sums = np.stack([found.sums for found in finalists.values()])  # (n_candidates, n_penalties, n_units)
    generator = np.random.default_rng(0)
    estimates = []
    for _ in range(n_resamples):
        counts = np.bincount(generator.integers(len(sizes), size=len(sizes)), minlength=len(sizes)).astype(np.float64)
        is_left = counts == 0
        if not is_left.any():
            continue
        penalties = (sums @ counts).argmax(axis=1)
        own = sums[np.arange(len(sums)), penalties]
        differences, errors = compare_with_best(own, sizes, counts)
        chosen = choose_cheapest(differences, errors, costs)
        estimates.append(own[chosen, is_left].sum() / sizes[is_left].sum())
    low, high = np.percentile(estimates, [2.5, 97.5]).tolist()
    return float(np.mean(estimates)), Interval(low, high)
