"""Few-shot curves: heads that are trained on few labels and on more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from ..errors import InputError
from .folds import draw_splits, rank_within_classes
from .learning_curve import FewShotPoint, LearningCurve
from .metrics import score_head
from .registry import DEFAULT, resolve_head, within_rows
from .targets import encode_labels, to_label_array

Array = NDArray[Any]

MAX_RANDOM_SEED = 2**31


@dataclass(frozen=True)
class ShotResult:
    """The outcome of one fit: rows that it was trained on, and accuracies."""

    n_rows: int
    score: float
    training_score: float


def few_shot_curve(
    X: Any,
    y: Any,
    head: Any = DEFAULT,
    shots: Sequence[int | str] = (1, 2, 4, 8, 16, "all"),
    *,
    draws: int = 5,
    test_size: float = 0.25,
    groups: Any = None,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> LearningCurve:
    """Train a head on few labels and on more, several times each, and score it on held-out rows.

    In each draw some rows are held out, and each number of shots takes the rows of the one before and more.

    Parameters
    ----------
    X : array of shape (n_rows, n_features)
        Features.
    y : array of shape (n_rows,)
        Labels.
    head : str or estimator
        A name from ``topwork heads``, or any scikit-learn classifier.
    shots : sequence of int or "all"
    draws : int
    test_size : float
        Share of the rows that are held out, by classes.
    groups : array of shape (n_rows,), optional
        Rows of a group are held out together.
    random_state : int or None
    n_jobs : int, optional
        Number of draws in parallel, as for joblib.

    Returns
    -------
    LearningCurve
        A sequence of one :class:`FewShotPoint` for each of `shots`, in their order, with the slope at its end:
        ``explain()`` says whether more labels would help.

    Raises
    ------
    InputError
        If a number of shots is not positive, a class has fewer than two rows, or the head cannot learn from so few.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> curve = few_shot_curve(*load_digits(return_X_y=True), "centroid", (1, 32, "all"), draws=3)
    >>> for point in curve:
    ...     print(point.shots, round(point.n_rows), point.scores.mean() > 0.5)
    1 10 True
    32 320 True
    all 1347 True
    >>> bool(curve.slope.gain < 0.05)
    True
    """
    # Validate.
    X = np.asarray(X)
    if X.ndim != 2:
        raise InputError(f"features of shape {X.shape}; expected a matrix: topwork.few_shot_curve also takes a store")
    y = to_label_array(y)
    if y.ndim != 1 or len(y) != len(X):
        raise InputError(f"{len(X)} rows but labels of shape {y.shape}; expected one label for each row")
    check_shots(shots)
    if draws < 1:
        raise InputError(f"draws is {draws}; expected one or more")
    y = prepare_labels(y)
    if random_state is None:
        random_state = int(np.random.default_rng().integers(MAX_RANDOM_SEED))

    # Fit each number of shots in each draw.
    splits = draw_splits(y, groups, draws, test_size=test_size, random_state=random_state)
    if not splits:
        raise InputError("all rows are of one group; expected at least two, so that one can be held out")
    results = Parallel(n_jobs=n_jobs)(
        delayed(score_shots)(X, y, head, shots=shots, train=train, held=held, seed=random_state + number)
        for number, (train, held) in enumerate(splits)
    )

    results_of_shots = zip(*results, strict=True)
    points = [summarise_draws(shot, of_draws) for shot, of_draws in zip(shots, results_of_shots, strict=True)]
    train, held = splits[0]
    return LearningCurve(tuple(points), held_out_ratio=len(held) / len(train))


def check_shots(shots: Sequence[int | str]) -> None:
    """Raise an InputError unless the numbers of labels per class are positive integers or "all"."""
    numbers = [shot for shot in shots if shot != "all"]
    are_allowed = all(isinstance(shot, int | np.integer) and shot >= 1 for shot in numbers)
    if not len(shots) or not are_allowed:
        raise InputError(f"shots is {shots!r}; expected positive integers, or 'all'")


def prepare_labels(y: Array) -> Array:
    """Check that there are two classes, and two rows of each; return codes for labels that have no order."""
    codes = encode_labels(y)[1]
    rows_of_class = np.bincount(codes)
    if len(rows_of_class) < 2 or rows_of_class.min() < 2:
        rarest = y.tolist()[int(np.argmax(codes == rows_of_class.argmin()))]
        raise InputError(
            f"label {rarest!r} has {rows_of_class.min()} row of {len(rows_of_class)} classes; expected at least two "
            "classes, and two rows of each: one to train on, one to hold out"
        )
    return codes if y.dtype == object else y


def score_shots(
    X: Array, y: Array, head: Any, *, shots: Sequence[int | str], train: Array, held: Array, seed: int
) -> list[ShotResult]:
    """Train a head on each number of shots of one draw, and score it; the seed orders the rows to choose from."""
    order = np.random.default_rng(seed).permutation(train)
    rank = rank_within_classes(y[order])
    results = []
    for shot in shots:
        chosen = order if shot == "all" else order[rank < int(shot)]
        rows = np.sort(chosen)
        fitted = fit_to_shots(head, X[rows], y[rows], shot=shot)
        score = score_head(fitted, X[held], y[held])
        training_score = score_head(fitted, X[rows], y[rows])
        results.append(ShotResult(len(rows), score, training_score))
    return results


def fit_to_shots(head: Any, X: Array, y: Array, *, shot: int | str) -> Any:
    """Fit a head to the rows of a number of shots."""
    try:
        return within_rows(resolve_head(head), len(X)).fit(X, y)
    except ValueError as error:
        raise InputError(f"head {head!r} cannot learn from {shot} labels a class: {error}") from error


def summarise_draws(shot: int | str, results: Sequence[ShotResult]) -> FewShotPoint:
    """Return the point of a curve from the results of all draws."""
    return FewShotPoint(
        shots=shot,
        n_rows=float(np.mean([result.n_rows for result in results])),
        scores=np.array([result.score for result in results]),
        training_scores=np.array([result.training_score for result in results]),
    )
