"""Scores that say without training how well features suit a task: LogME, H-score, TransRate, neighbours, rank.

All but the nearest neighbours follow from the eigenvalues of the smaller Gram matrix of the features and from the sums
of the rows of each class, so that they take seconds where a head takes minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ..errors import InputError
from .decomposition import Decomposition, compute_smaller_gram, decompose, iterate_blocks
from .metrics import ACCURACY, R2, compute_score
from .nearest_rows import find_nearest_rows
from .registry import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS
from .targets import are_missing, encode_labels, to_label_array, validate_labels

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

CODING_PRECISION = 1e-4
"""The distortion up to which TransRate codes features, as in Huang et al. 2022."""
MAX_EVIDENCE_STEPS = 11
EVIDENCE_TOLERANCE = 1e-3
EVIDENCE_OFFSET = 1e-5
"""The number of steps, relative tolerance and offset of the authors' implementation of LogME."""
SMALLEST_PRECISION = 1e-300
"""That of weights where no feature varies."""
LARGEST_FEATURE = 1e100
"""Sums of squares of larger features would overflow."""


@dataclass(frozen=True)
class Transferability:
    """What can be said of features without training a head, see :func:`measure_transferability`.

    Parameters
    ----------
    logme : float
        See :func:`logme`.
    h_score, regularised_h_score, transrate : float
        See the functions of these names; NaN for several labels and for values.
    neighbor_score : float
        See :func:`nearest_neighbor_score`.
    effective_rank : float
        See :func:`effective_rank`.
    """

    logme: float
    h_score: float
    regularised_h_score: float
    transrate: float
    neighbor_score: float
    effective_rank: float

    def to_dict(self) -> dict[str, float | None]:
        """Return the scores by name, None for those that the task does not have."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: None if np.isnan(value) else value for name, value in values.items()}


@dataclass(frozen=True)
class Targets:
    """What features are scored by: the targets as they were given, and as columns of numbers, sparse for classes.

    `columns` have the shape ``(n_rows, n_outputs)``: of classes the indicators, of values the values; labels that
    always or never apply are left out. `codes` are the classes of the rows, empty where there are none.
    """

    values: Array
    columns: Any
    codes: NDArray[np.int64]
    metric: str

    @property
    def squares(self) -> FloatArray:
        """The sum of the squares of each column."""
        squared = self.columns.multiply(self.columns) if self.has_classes else self.columns**2
        return np.asarray(squared.sum(axis=0), np.float64).ravel()

    @property
    def has_classes(self) -> bool:
        """Whether each row has one class."""
        return len(self.codes) > 0


def measure_transferability(X: Any, y: Any, *, task: str = CLASSIFICATION, groups: Any = None) -> Transferability:
    """Compute all scores of features at once, which takes less time than one after the other.

    Parameters
    ----------
    X : array or memmap of shape (n_rows, n_features)
        Features, of any type of numbers; they are read in blocks.
    y : array of shape (n_rows,) or (n_rows, n_outputs)
        Classes; several labels as 0 and 1; or values.
    task : {"classification", "multilabel", "regression"}
        What `y` means. Several columns of zeros and ones are labels also for "classification".
    groups : array of shape (n_rows,), optional
        Rows of a group do not count as neighbours of each other.

    Returns
    -------
    Transferability
        The scores, NaN for those that are not defined for the task.

    Raises
    ------
    InputError
        If there is not one target for each row, a feature or value is not finite, there are fewer than two rows, or
        nothing tells the targets apart.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> scores = measure_transferability(*load_iris(return_X_y=True))
    >>> round(scores.logme, 3), round(scores.h_score, 3), scores.neighbor_score
    (-0.16, 1.192, 0.96)
    """
    X, mean = validate_features(X)
    targets = validate_targets(y, task, n_rows=len(X))
    neighbor_score = score_by_neighbors(X, mean, targets, validate_groups(groups, len(X)))
    evidence = compute_logme(decompose(X, np.zeros_like(mean), targets.columns), targets.squares)
    centred = decompose(X, mean, targets.columns)
    h = regularised_h = rate = np.nan
    if targets.has_classes:
        rows_of_class = np.bincount(targets.codes)
        h = compute_h_score(centred, rows_of_class)
        regularised_h = compute_regularised_h_score(centred, rows_of_class)
        rate = compute_transrate(X, mean, targets.codes, centred.eigenvalues)
    return Transferability(
        logme=evidence,
        h_score=h,
        regularised_h_score=regularised_h,
        transrate=rate,
        neighbor_score=neighbor_score,
        effective_rank=compute_effective_rank(centred.eigenvalues),
    )


def logme(X: Any, y: Any, *, task: str = CLASSIFICATION) -> float:
    """Compute the logarithm of the maximum evidence of a Bayesian linear model for each output.

    Parameters
    ----------
    X : array or memmap of shape (n_rows, n_features)
    y : array of shape (n_rows,) or (n_rows, n_outputs)
        Classes; several labels as 0 and 1; or values. Labels that always or never apply do not count.
    task : {"classification", "multilabel", "regression"}

    Returns
    -------
    float
        Per row, averaged over classes, labels or values; higher is better. Values of other targets, or of the same in
        other units, cannot be compared.

    Raises
    ------
    InputError
        As for :func:`measure_transferability`.

    Notes
    -----
    You et al. 2021 (https://arxiv.org/abs/2102.11005), maximised by the fixed-point iteration of You et al. 2022
    (https://arxiv.org/abs/2110.10545): at most eleven steps, or until the ratio of the two precisions changes by less
    than one part in a thousand. Features enter as they are, neither centred nor scaled, and directions in which they do
    not vary add nothing.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> round(logme(*load_iris(return_X_y=True)), 6)
    -0.16006
    """
    X, mean = validate_features(X)
    targets = validate_targets(y, task, n_rows=len(X))
    return compute_logme(decompose(X, np.zeros_like(mean), targets.columns), targets.squares)


def h_score(X: Any, y: Any) -> float:
    """Compute how far the means of the classes lie apart, in units of the features' covariance.

    Parameters
    ----------
    X : array or memmap of shape (n_rows, n_features)
    y : array of shape (n_rows,)
        Classes.

    Returns
    -------
    float
        At most the number of classes less one; higher is better. With as many features as rows, that is what any
        features reach: see :func:`regularised_h_score`.

    Raises
    ------
    InputError
        As for :func:`measure_transferability`; also for several labels.

    Notes
    -----
    The trace of the product of the pseudo-inverse of the covariance with the covariance of the features that are
    replaced by the mean of their class (Bao et al. 2019, https://arxiv.org/abs/2212.10082).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> round(h_score(*load_iris(return_X_y=True)), 6)
    1.191899
    """
    X, mean = validate_features(X)
    targets = validate_classes(y, n_rows=len(X))
    return compute_h_score(decompose(X, mean, targets.columns), np.bincount(targets.codes))


def regularised_h_score(X: Any, y: Any) -> float:
    """Compute the H-score with a covariance that is shrunk, for features that are many beside the rows.

    Parameters
    ----------
    X : array or memmap of shape (n_rows, n_features)
    y : array of shape (n_rows,)
        Classes.

    Returns
    -------
    float
        Higher is better.

    Raises
    ------
    InputError
        As for :func:`h_score`.

    Notes
    -----
    The covariance is that of Ledoit and Wolf 2004; that of the class means is multiplied by one less the shrinkage
    (Ibrahim et al. 2022, https://arxiv.org/abs/2110.06893).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> round(regularised_h_score(*load_iris(return_X_y=True)), 6)
    1.177842
    """
    X, mean = validate_features(X)
    targets = validate_classes(y, n_rows=len(X))
    return compute_regularised_h_score(decompose(X, mean, targets.columns), np.bincount(targets.codes))


def transrate(X: Any, y: Any) -> float:
    """Compute how much shorter features can be coded if their classes are known.

    Parameters
    ----------
    X : array or memmap of shape (n_rows, n_features)
    y : array of shape (n_rows,)
        Classes.

    Returns
    -------
    float
        The rate of all rows less the mean rate of the classes, in nats; higher is better.

    Raises
    ------
    InputError
        As for :func:`h_score`.

    Notes
    -----
    Huang et al. 2022 (https://arxiv.org/abs/2106.09362), for centred features and a distortion of 1e-4. It depends on
    the scale of the features.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> round(transrate(*load_iris(return_X_y=True)), 6)
    0.589405
    """
    X, mean = validate_features(X)
    targets = validate_classes(y, n_rows=len(X))
    eigenvalues = decompose(X, mean, targets.columns).eigenvalues
    return compute_transrate(X, mean, targets.codes, eigenvalues)


def nearest_neighbor_score(X: Any, y: Any, *, task: str = CLASSIFICATION, groups: Any = None) -> float:
    """Score the prediction of each row from the nearest other row.

    Parameters
    ----------
    X : array or memmap of shape (n_rows, n_features)
    y : array of shape (n_rows,) or (n_rows, n_outputs)
    task : {"classification", "multilabel", "regression"}
    groups : array of shape (n_rows,), optional
        Rows of a group do not count as neighbours of each other.

    Returns
    -------
    float
        Accuracy, with several labels that of all labels of a row; for values the coefficient of determination, which is
        negative where the nearest row says less than the mean.

    Raises
    ------
    InputError
        As for :func:`measure_transferability`; also if all rows are of one group.

    Notes
    -----
    Euclidean distances, in blocks: memory does not grow with the square of the rows. They are computed in float32
    unless the features are float64 or integers. A row without a neighbour outside of its group is left out.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> nearest_neighbor_score(*load_iris(return_X_y=True))
    0.96
    """
    X, mean = validate_features(X)
    targets = validate_targets(y, task, n_rows=len(X))
    return score_by_neighbors(X, mean, targets, validate_groups(groups, len(X)))


def effective_rank(X: Any) -> float:
    """Compute how many directions features spread over.

    Parameters
    ----------
    X : array or memmap of shape (n_rows, n_features)

    Returns
    -------
    float
        From 1, if all rows lie on a line, to the number of features, if they spread evenly; 0 if all rows are equal.

    Raises
    ------
    InputError
        If there are fewer than two rows, or a feature is not finite.

    Notes
    -----
    The exponential of the entropy of the singular values of the centred features, as shares of their sum (Roy and
    Vetterli 2007).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> round(effective_rank(load_iris().data), 3)
    2.532
    """
    X, mean = validate_features(X)
    no_targets = np.empty((len(X), 0))
    return compute_effective_rank(decompose(X, mean, no_targets).eigenvalues)


# Validation.


def validate_features(X: Any) -> tuple[Array, FloatArray]:
    """Return features as a matrix of numbers, and the mean of each; raise an InputError for any other."""
    X = np.asanyarray(X)
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise InputError(f"features of shape {X.shape} and type {X.dtype}; expected a matrix of numbers")
    if len(X) < 2 or not X.shape[1]:
        raise InputError(f"features of shape {X.shape}; expected at least two rows and one column")
    sums = np.zeros(X.shape[1])
    for block in iterate_blocks(X):
        is_usable = (np.abs(block) <= LARGEST_FEATURE).all(axis=0)
        if not is_usable.all():
            column = int(np.flatnonzero(~is_usable)[0])
            raise InputError(
                f"feature {column} is not finite in some row, or beyond {LARGEST_FEATURE:g}; expected finite numbers: "
                "leave those rows out"
            )
        sums += block.sum(axis=0)
    return X, sums / len(X)


def validate_targets(y: Any, task: str, n_rows: int) -> Targets:
    """Return targets for a task; raise an InputError if they are not one for each row, or all alike."""
    if task not in TASKS:
        raise InputError(f"task is {task!r}; expected one of {', '.join(TASKS)}")
    values = np.asarray(y) if task == REGRESSION else to_label_array(y)
    if values.ndim not in (1, 2) or len(values) != n_rows:
        raise InputError(f"{n_rows} rows but targets of shape {values.shape}; expected one for each row")
    if are_missing(values).any():
        raise InputError("some targets are missing; expected one for each row: leave those rows out")
    if task == REGRESSION:
        return prepare_values(values)
    if values.ndim == 1 and task == CLASSIFICATION:
        return prepare_classes(values)
    labels = validate_labels(values)
    if labels.ndim == 1:
        raise InputError(f"targets of shape {values.shape} for {MULTILABEL}; expected a column of 0 and 1 a label")
    columns = labels.astype(np.float64)
    return Targets(labels, keep_varying(columns), np.empty(0, np.int64), ACCURACY)


def prepare_values(values: Array) -> Targets:
    """Return values as targets; raise an InputError unless they are finite numbers."""
    if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise InputError(f"targets of type {values.dtype} for {REGRESSION}; expected finite numbers")
    columns = values.reshape(len(values), -1).astype(np.float64)
    return Targets(columns, keep_varying(columns), np.empty(0, np.int64), R2)


def prepare_classes(labels: Array) -> Targets:
    """Return classes as targets; raise an InputError if there is only one."""
    classes, codes = encode_labels(labels)
    if len(classes) < 2:
        only = classes.tolist()[0]
        raise InputError(f"all {len(labels)} rows have the label {only!r}; expected at least two classes")
    indicators = csr_matrix((np.ones(len(codes)), (np.arange(len(codes)), codes)))
    return Targets(codes, indicators, codes, ACCURACY)


def validate_classes(y: Any, n_rows: int) -> Targets:
    """Return one class for each row as targets; raise an InputError for several labels."""
    targets = validate_targets(y, CLASSIFICATION, n_rows)
    if not targets.has_classes:
        raise InputError(f"labels of shape {targets.values.shape}; expected one class for each row: use logme")
    return targets


def validate_groups(groups: Any, n_rows: int) -> NDArray[np.int64] | None:
    """Return the number of each row's group, None without groups."""
    if groups is None:
        return None
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
    if numbers.shape != (n_rows,):
        raise InputError(f"{n_rows} rows but groups of shape {np.shape(groups)}; expected one for each row")
    return numbers


def keep_varying(columns: FloatArray) -> FloatArray:
    """Return the columns whose values differ; raise an InputError if there is none."""
    is_varying = (columns != columns[0]).any(axis=0)
    if not is_varying.any():
        raise InputError("all rows have the same target; expected targets that differ")
    return columns[:, is_varying]


# Scores.


def compute_logme(decomposition: Decomposition, target_squares: FloatArray) -> float:
    """Compute LogME from a decomposition of features that are not centred, and the sums of the targets' squares."""
    explained = decomposition.projected**2  # (rank, n_outputs)
    evidences = [
        maximise_evidence(decomposition.eigenvalues, of_output, squares=squares, n_rows=decomposition.n_rows)
        for of_output, squares in zip(explained.T, target_squares, strict=True)
    ]
    return float(np.mean(evidences))


def maximise_evidence(variances: FloatArray, explained: FloatArray, *, squares: float, n_rows: int) -> float:
    """Return the maximum log evidence per row of one output.

    `explained` ``(rank,)`` is the part of the sum of `squares` of the output in the direction of each variance.
    """
    unexplained = max(squares - explained.sum(), 0.0)
    weight_precision = 1.0
    target_precision = 1.0
    for _ in range(MAX_EVIDENCE_STEPS):
        ratio = weight_precision / target_precision
        n_determined = (variances / (variances + ratio)).sum()
        weight_squares = (variances * explained / (ratio + variances) ** 2).sum()
        residual = (explained / (1 + variances / ratio) ** 2).sum() + unexplained
        weight_precision = n_determined / (weight_squares + EVIDENCE_OFFSET)
        weight_precision = max(weight_precision, SMALLEST_PRECISION)
        target_precision = (n_rows - n_determined) / (residual + EVIDENCE_OFFSET)
        change = abs(weight_precision / target_precision - ratio)
        if change <= EVIDENCE_TOLERANCE * ratio:
            break

    posterior_precisions = weight_precision + target_precision * variances
    evidence = len(variances) / 2 * np.log(weight_precision) - np.log(posterior_precisions).sum() / 2
    evidence += n_rows / 2 * np.log(target_precision / (2 * np.pi))
    evidence -= (target_precision * residual + weight_precision * weight_squares) / 2
    return float(evidence / n_rows)


def compute_h_score(centred: Decomposition, rows_of_class: Array) -> float:
    """Compute the H-score from a decomposition of centred features: the share of each left vector between classes."""
    between = (centred.projected**2 / rows_of_class).sum(axis=1)  # (rank,)
    return float(between.sum())


def compute_regularised_h_score(centred: Decomposition, rows_of_class: Array) -> float:
    """Compute the H-score with a shrunk covariance, from a decomposition of centred features."""
    shrinkage, target = shrink_covariance(centred)
    n_rows = centred.n_rows
    between = (centred.projected**2 / rows_of_class).sum(axis=1)  # (rank,)
    between_variances = between * centred.eigenvalues / (n_rows - 1)
    variances = centred.eigenvalues / n_rows
    shrunk_variances = (1 - shrinkage) * variances + shrinkage * target
    return float((1 - shrinkage) * (between_variances / shrunk_variances).sum())


def shrink_covariance(centred: Decomposition) -> tuple[float, float]:
    """Return the shrinkage of Ledoit and Wolf 2004, and the variance that it shrinks towards."""
    n_rows = centred.n_rows
    n_features = centred.n_features
    variances = centred.eigenvalues / n_rows
    target = variances.sum() / n_features
    squares = (variances**2).sum()
    noise = ((centred.squared_lengths**2).sum() / n_rows - squares) / n_rows
    dispersion = squares - n_features * target**2
    noise = min(noise, dispersion)
    return (0.0 if noise <= 0 else float(noise / dispersion)), float(target)


def compute_transrate(X: Array, mean: FloatArray, codes: NDArray[np.int64], eigenvalues: FloatArray) -> float:
    """Compute TransRate; the eigenvalues are those of all centred rows."""
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    rates = []
    for rows in np.split(order, ends[:-1]):
        gram = compute_smaller_gram(X[rows], mean)
        scaled = gram / (len(rows) * CODING_PRECISION)
        scaled.flat[:: len(gram) + 1] += 1.0
        rates.append(np.linalg.slogdet(scaled)[1] / 2)
    whole_rate = np.log1p(eigenvalues / (len(X) * CODING_PRECISION)).sum() / 2
    return float(whole_rate - np.mean(rates))


def compute_effective_rank(eigenvalues: FloatArray) -> float:
    """Compute the effective rank from the eigenvalues of the Gram matrix of centred features."""
    if not len(eigenvalues):
        return 0.0
    singular_values = np.sqrt(eigenvalues)
    shares = singular_values / singular_values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def score_by_neighbors(X: Array, mean: FloatArray, targets: Targets, groups: NDArray[np.int64] | None) -> float:
    """Score the targets of the nearest rows as predictions."""
    is_single_precision = X.dtype in (np.float16, np.float32)
    largest = max(float(np.abs(X).max()), np.finfo(np.float64).tiny)
    scaled = (X - mean) / largest  # distances keep their order
    rows = scaled.astype(np.float32 if is_single_precision else np.float64)
    nearest = find_nearest_rows(rows, groups)
    has_neighbor = nearest >= 0
    if not has_neighbor.any():
        raise InputError("all rows are of one group; expected at least two groups")
    return compute_score(
        targets.metric,
        targets=targets.values[has_neighbor],
        predictions=targets.values[nearest[has_neighbor]],
    )
