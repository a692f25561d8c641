"""Labels that are probably wrong, and classes that cannot be told apart, by predictions for held-out rows.

The model of noisy labels is that of confident learning (Northcutt, Jiang and Chuang 2021,
https://arxiv.org/abs/1911.00068): how often each class is labelled as another one is counted over the rows that are
predicted with more than the usual confidence. By Bayes' rule, that gives each label a probability of being wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import rankdata
from sklearn.linear_model import RidgeCV

from .folds import Folds
from .linear.linear_probe import LinearProbe
from .parallel import run_all
from .standardisation import MeanVariance

Array = NDArray[Any]

PROBE_C = 0.01
"""Inverse strength of the penalty of the classifier that judges labels: strong, so that it does not learn errors."""
PROBE_TOLERANCE = 1e-4
RIDGE_ALPHAS = np.logspace(-1, 5, 7)
PRIOR_COUNT = 0.5
"""Count of each kind of error before any is seen (Jeffreys' prior)."""
MIN_MEAN_RATIO = 0.25
"""Pairs of classes whose mean probabilities differ more are not compared: they can be told apart."""
MAX_SEPARABILITY = 0.75
"""Area under the ROC curve below which, at its upper confidence limit, two classes count as one."""
CONFIDENCE_QUANTILE = 1.64
"""Of a normal variable, for a one-sided limit at 95 %."""
MAX_CALIBRATION_ROWS = 10_000
LOG_POWERS = (-2.0, 2.0)
"""Limits of the logarithm of the power that calibrates probabilities."""
SMALLEST_PROBABILITY = np.float32(1e-9)
ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class JudgedLabels:
    """How likely each label is wrong, and which one is likeliest instead.

    Parameters
    ----------
    wrong : ndarray of float64, shape (n_rows,)
        Probability that the label is wrong; NaN for rows that cannot be judged.
    given : ndarray of float64, shape (n_rows,)
        Out-of-fold probability of the given label.
    best : ndarray of int, shape (n_rows,)
        Code of the likeliest other class.
    best_probability : ndarray of float64, shape (n_rows,)
        Out-of-fold probability of that class.
    best_is_true : ndarray of float64, shape (n_rows,)
        Probability that it is the right one.
    """

    wrong: NDArray[np.float64]
    given: NDArray[np.float64]
    best: NDArray[np.intp]
    best_probability: NDArray[np.float64]
    best_is_true: NDArray[np.float64]


def predict_out_of_fold(X: Array, codes: Array, n_classes: int, folds: Folds) -> NDArray[np.float32]:
    """Return the probabilities ``(n_rows, n_classes)`` of each row by a linear probe that was trained on other folds.

    Rows whose class has no row in the other folds are NaN. Features may be a memory map.
    """
    probabilities = np.full((len(X), n_classes), np.nan, np.float32)
    for held, found in run_all(predict_fold, ((X, codes, n_classes, train, held) for train, held in folds)):
        probabilities[held] = found
    return probabilities


def predict_fold(
    X: Array, codes: Array, n_classes: int, train: Array, held: Array
) -> tuple[Array, NDArray[np.float32]]:
    """Return those rows of a fold whose class can be learned from the others, and their probabilities."""
    known = np.unique(codes[train])
    judged = held[np.isin(codes[held], known)]
    if len(known) < 2:
        judged = judged[:0]
    found = np.zeros((len(judged), n_classes), np.float32)
    if len(judged):
        probe = fit_without(X, codes, train)
        for start in range(0, len(judged), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            found[rows, probe.classes_] = probe.predict_proba(np.asarray(X[judged[rows]]))
    return judged, found


def fit_without(X: Array, targets: Array, train: Array) -> LinearProbe:
    """Return a linear probe that was fitted to some rows; others have no weight, so that features are not copied."""
    weights = np.zeros(len(X))
    weights[train] = 1.0
    return LinearProbe(C=PROBE_C, tol=PROBE_TOLERANCE).fit(X, targets, sample_weight=weights)


def predict_labels_out_of_fold(X: Array, marks: Array, folds: Folds) -> NDArray[np.float32]:
    """Return the probability ``(n_rows, n_labels)`` of each of several labels by a linear probe of other folds.

    `marks` are 0 and 1. Labels that all rows of the other folds have, or none, are NaN.
    """
    probabilities = np.full(marks.shape, np.nan, np.float32)
    found = run_all(predict_labels_of_fold, ((X, marks, train, held) for train, held in folds))
    for (_, held), own in zip(folds, found, strict=True):
        probabilities[held] = own
    return probabilities


def predict_labels_of_fold(X: Array, marks: Array, train: Array, held: Array) -> NDArray[np.float32]:
    """Return the probabilities ``(n_held, n_labels)`` of the rows of a fold; NaN for labels that cannot be learned."""
    found = np.full((len(held), marks.shape[1]), np.nan, np.float32)
    share = marks[train].mean(axis=0)
    columns = np.flatnonzero((share > 0) & (share < 1))
    if len(columns) == 1:
        probe = fit_without(X, marks[:, columns[0]], train)
        found[:, columns[0]] = probe.predict_proba(np.asarray(X[held]))[:, 1]
    elif len(columns):
        probe = fit_without(X, marks[:, columns], train)
        found[:, columns] = probe.predict_proba(np.asarray(X[held]))
    return found


def predict_values_out_of_fold(X: Array, values: Array, folds: Folds) -> NDArray[np.float64]:
    """Return the value of each row as a ridge regression of other folds predicts it; NaN for rows of no fold."""
    predicted = np.full(len(values), np.nan)
    found = run_all(predict_values_of_fold, ((X, values, train, held) for train, held in folds))
    for (_, held), own in zip(folds, found, strict=True):
        predicted[held] = own
    return predicted


def predict_values_of_fold(X: Array, values: Array, train: Array, held: Array) -> NDArray[np.float64]:
    """Return the predicted values of the rows of a fold."""
    features = np.asarray(X[train], np.float64)
    moments = MeanVariance.of(features, np.ones(len(train)))
    ridge = RidgeCV(alphas=RIDGE_ALPHAS).fit((features - moments.mean) / moments.scale, values[train])
    predicted: NDArray[np.float64] = ridge.predict((np.asarray(X[held], np.float64) - moments.mean) / moments.scale)
    return predicted


def calibrate(probabilities: Array, codes: Array) -> NDArray[np.float32]:
    """Return out-of-fold probabilities to the power with the lowest log loss: temperature scaling (Guo et al. 2017).

    The power is found by some of the rows if there are many. Rows of NaN stay.
    """
    judged = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    if not len(judged):
        return np.asarray(probabilities, np.float32)
    step = max(1, len(judged) // MAX_CALIBRATION_ROWS)
    rows = judged[::step]
    logarithms = np.log(np.maximum(probabilities[rows], SMALLEST_PROBABILITY)).astype(np.float64)
    own = codes[rows]

    def measure_loss(log_power: float) -> float:
        log_probabilities = log_softmax(logarithms * np.exp(log_power), axis=1)
        return -float(log_probabilities[np.arange(len(rows)), own].mean())

    log_power = minimize_scalar(measure_loss, bounds=LOG_POWERS, method="bounded").x
    powers = np.maximum(probabilities, SMALLEST_PROBABILITY) ** np.float32(np.exp(log_power))
    calibrated: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return calibrated


def judge_labels(probabilities: Array, codes: Array) -> JudgedLabels:
    """Return how likely the label of each row is wrong, from out-of-fold probabilities ``(n_rows, n_classes)``."""
    n_rows = len(probabilities)
    transitions = estimate_transitions(probabilities, codes)
    wrong = np.full(n_rows, np.nan)
    best = np.zeros(n_rows, np.intp)
    best_is_true = np.full(n_rows, np.nan)
    best_probability = np.full(n_rows, np.nan)
    for start in range(0, n_rows, ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, n_rows))
        own = codes[rows]
        # Probability of each true class and the given label together, then of each true class.
        posterior = probabilities[rows].astype(np.float64) * transitions[:, own].T  # (n, n_classes)
        posterior /= posterior.sum(axis=1, keepdims=True)
        places = np.arange(len(rows))
        wrong[rows] = 1 - posterior[places, own]
        posterior[places, own] = -1.0
        best[rows] = posterior.argmax(axis=1)
        best_is_true[rows] = posterior[places, best[rows]]
        best_probability[rows] = probabilities[rows, best[rows]]
    given = probabilities[np.arange(n_rows), codes].astype(np.float64)
    return JudgedLabels(wrong, given, best, best_probability, best_is_true)


def estimate_transitions(probabilities: Array, codes: Array) -> NDArray[np.float64]:
    """Return the probability ``(n_classes, n_classes)`` that a row of one class is labelled as another.

    A row counts as of the likeliest class whose probability is at least the mean that rows with that label have.
    """
    n_classes = probabilities.shape[1]
    is_judged = ~np.isnan(probabilities[:, 0])
    judged = probabilities[is_judged]
    labels = codes[is_judged]
    usual = np.full(n_classes, np.inf)
    for code in np.unique(labels):
        usual[code] = judged[labels == code, code].mean()
    confident = np.where(judged >= usual, judged, -1.0)
    is_confident = confident.max(axis=1, initial=-1.0) > 0
    counts = np.full((n_classes, n_classes), PRIOR_COUNT)
    np.add.at(counts, (confident[is_confident].argmax(axis=1), labels[is_confident]), 1)
    transitions: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return transitions


def find_indistinct_classes(probabilities: Array, codes: Array) -> list[tuple[int, int, float]]:
    """Return pairs of classes that a classifier cannot tell apart, with the area under the ROC curve of each pair.

    A row of either class is scored by the ratio of its two out-of-fold probabilities. The upper confidence limit of the
    area is that of the Mann-Whitney statistic for equal distributions.
    """
    is_judged = ~np.isnan(probabilities[:, 0])
    rows_of_class = [np.flatnonzero((codes == code) & is_judged) for code in range(probabilities.shape[1])]
    means = np.array([average_rows(probabilities, rows) for rows in rows_of_class])  # (n_classes, n_classes)
    is_similar = means >= MIN_MEAN_RATIO * means.diagonal()[:, None]
    is_candidate = np.triu(is_similar | is_similar.T, k=1)
    found = []
    for first, second in np.argwhere(is_candidate).tolist():
        n_first = len(rows_of_class[first])
        n_second = len(rows_of_class[second])
        if not n_first or not n_second:
            continue
        rows = np.concatenate([rows_of_class[first], rows_of_class[second]])
        ratios = probabilities[rows, second] / (probabilities[rows, first] + probabilities[rows, second] + 1e-30)
        rank_sum = rankdata(ratios)[n_first:].sum()
        area = (rank_sum - n_second * (n_second + 1) / 2) / (n_first * n_second)
        standard_error = np.sqrt((n_first + n_second + 1) / (12 * n_first * n_second))
        if area + CONFIDENCE_QUANTILE * standard_error < MAX_SEPARABILITY:
            found.append((first, second, float(area)))
    return found


def average_rows(values: Array, rows: Array) -> NDArray[np.float64]:
    """Return the mean of some rows, zeros if there are none."""
    if not len(rows):
        return np.zeros(values.shape[1])
    mean: NDArray[np.float64] = values[rows].mean(axis=0, dtype=np.float64)
    return mean
