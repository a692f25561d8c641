"""How accuracy grows with the number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit

from ..errors import InputError
from .registry import DEFAULT, resolve_head, within_rows
from .targets import coded, typed_labels

Array = NDArray[Any]


@dataclass(frozen=True)
class FewShotPoint:
    """What a head reaches with so many labels for each class.

    Parameters
    ----------
    shots : int or "all"
        Labels for each class; a class that has fewer gives all of its rows.
    n_rows : float
        Rows that were trained on, on average.
    scores, training_scores : ndarray of shape (n_draws,)
        Accuracy on rows that were held out, and on those that were trained on.
    """

    shots: int | str
    n_rows: float
    scores: Array
    training_scores: Array

    def __str__(self) -> str:
        mean, spread = self.scores.mean(), self.scores.std()
        return (
            f"{self.shots:>6} labels a class ({self.n_rows:>7,.0f} rows): {mean:.3f} ± {spread:.3f}, "
            f"in training {self.training_scores.mean():.3f}"
        )


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
) -> list[FewShotPoint]:
    """Train a head on few labels and on more, several times each, and judge it on rows that were held out.

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
        Draws at a time, as joblib has it.

    Returns
    -------
    list of FewShotPoint
        One for each of `shots`.

    Raises
    ------
    InputError
        If a number of shots is none, a class has fewer than two rows, or the head cannot learn from so few.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> for point in few_shot_curve(*load_digits(return_X_y=True), "centroid", (1, "all"), draws=3):
    ...     print(point.shots, round(point.n_rows), point.scores.mean() > 0.5)
    1 10 True
    all 1347 True
    """
    X, y = np.asarray(X), typed_labels(y)
    _check(y, shots, draws, len(X))
    if y.dtype == object:  # of several types
        y = coded(y)[1]
    if random_state is None:
        random_state = int(np.random.default_rng().integers(2**31))
    splitter: Any = StratifiedShuffleSplit if groups is None else GroupShuffleSplit
    splits = splitter(draws, test_size=_share(test_size, y, groups), random_state=random_state).split(X, y, groups)
    found = Parallel(n_jobs=n_jobs)(
        delayed(_draw)(X, y, head, shots, train, test, random_state + number)
        for number, (train, test) in enumerate(splits)
    )
    counts, scores, training = np.array(found).transpose(2, 1, 0)  # (3, shots, draws)
    return [FewShotPoint(each, counts[k].mean(), scores[k], training[k]) for k, each in enumerate(shots)]


def _check(y: Array, shots: Sequence[int | str], draws: int, count: int) -> None:
    if y.ndim != 1 or len(y) != count:
        raise InputError(f"{count} rows but labels of shape {y.shape}; expected one label for each row")
    if not len(shots) or not all(isinstance(each, int | np.integer) and each >= 1 for each in shots if each != "all"):
        raise InputError(f"shots is {shots!r}; expected positive integers, or 'all'")
    if draws < 1:
        raise InputError(f"draws is {draws}; expected one or more")
    names, places, counts = np.unique(coded(y.astype(object))[1], return_index=True, return_counts=True)
    rarest = y.tolist()[places[counts.argmin()]]
    if len(names) < 2 or counts.min() < 2:
        raise InputError(
            f"label {rarest!r} has {counts.min()} row of {len(names)} classes; expected at least two "
            "classes, and two rows of each: one to train on, one to hold out"
        )


def _share(test_size: float, y: Array, groups: Any) -> float | int:
    """Return the share to hold out; at least one row for each class."""
    classes = len(np.unique(y))
    return test_size if groups is not None or test_size * len(y) >= classes else classes


def _draw(
    X: Array, y: Array, head: Any, shots: Sequence[int | str], train: Array, test: Array, seed: int
) -> list[tuple[int, float, float]]:
    """Return for each number of shots the rows, the score, and the score in training."""
    order = np.random.default_rng(seed).permutation(train)
    place = np.empty(len(order), np.int64)  # of a row among those of its class
    for name in np.unique(y[order]):
        own = y[order] == name
        place[own] = np.arange(own.sum())
    found = []
    for each in shots:
        rows = np.sort(order if each == "all" else order[place < int(each)])
        fitted = _fitted(head, each, X[rows], y[rows])
        score, training = (float(np.mean(fitted.predict(X[some]) == y[some])) for some in (test, rows))
        found.append((len(rows), score, training))
    return found


def _fitted(head: Any, shots: int | str, X: Array, y: Array) -> Any:
    try:
        return within_rows(resolve_head(head), len(X)).fit(X, y)
    except ValueError as error:
        raise InputError(f"head {head!r} cannot learn from {shots} labels a class: {error}") from error
