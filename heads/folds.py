"""The choice of held-out rows: folds, random splits, draws of each class, and which held-out rows can be judged."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    check_cv,
)

from ..errors import InputError

Array = NDArray[Any]
Folds = list[tuple[Array, Array]]
"""Rows to train on and rows to hold out, as integers, of each fold."""

NO_FOLD = -1
"""The fold of rows that are never held out."""
MIN_VALIDATION_ROWS = 10
"""With fewer rows to judge by, early stopping would follow chance."""


def make_folds(y: Array, groups: Any, n_folds: int, by_class: bool = True) -> Folds:
    """Divide rows into folds by class, in the order of the rows; rows of a group stay together.

    There are at most `n_folds`, and no more than rows of the largest class, or than groups; none if no row can be held
    out. `by_class` gives each fold its share of each class; it is not for values and several labels.

    The only row of a class, and a group that has all rows of a class, are held out like others; callers that judge by
    held-out rows leave those out, see :func:`select_learnable_rows`.
    """
    if by_class:
        n_folds = min(n_folds, int(np.unique(y, return_counts=True)[1].max()))
    n_units = len(y) if groups is None else len(np.unique(groups))
    n_folds = min(n_folds, n_units)
    if n_folds < 2:
        return []

    splitter = choose_fold_splitter(n_folds, has_groups=groups is not None, by_class=by_class)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        return list(splitter.split(np.zeros((len(y), 1)), y, groups))


def choose_fold_splitter(n_folds: int, *, has_groups: bool, by_class: bool) -> Any:
    """Return scikit-learn's splitter into folds; without groups and classes, rows are shuffled."""
    if has_groups:
        return StratifiedGroupKFold(n_folds) if by_class else GroupKFold(n_folds)
    if by_class:
        return StratifiedKFold(n_folds)
    return KFold(n_folds, shuffle=True, random_state=0)


def draw_splits(
    y: Array,
    groups: Any,
    n_draws: int,
    *,
    test_size: float,
    random_state: int,
    by_class: bool = True,
) -> Folds:
    """Hold out a share of the rows at random, several times; rows of a group stay together; none of a single group.

    With `by_class` each class gets its share, and at least one row of each is held out, if there are no groups and
    every class has two rows; it is not for values and several labels.
    """
    n_units = len(y) if groups is None else len(np.unique(groups))
    if n_units < 2:
        return []
    splitter: Any = ShuffleSplit(n_draws, test_size=test_size, random_state=random_state)
    if groups is not None:
        splitter = GroupShuffleSplit(n_draws, test_size=test_size, random_state=random_state)
    elif by_class:
        rows_of_class = np.unique(y, return_counts=True)[1]
        n_classes = len(rows_of_class)
        if rows_of_class.min() > 1:
            size = test_size if test_size * len(y) >= n_classes else n_classes
            splitter = StratifiedShuffleSplit(n_draws, test_size=size, random_state=random_state)
    return list(splitter.split(np.zeros((len(y), 1)), y, groups))


def find_held_out_rows(cv: Any, y: Array, groups: Any, weights: Array, *, by_class: bool, owner: str) -> list[Array]:
    """Return the rows that each fold of a parameter ``cv`` holds out; rows without weight do not count.

    Folds that hold out nothing are left out. The folds of a splitter must be a partition, see :func:`check_folds`; a
    number of folds is divided by class if `by_class`. `owner` is the name of the estimator, for errors.
    """
    if isinstance(cv, int | np.integer):
        return hold_out_in_folds(y, groups, weights, n_folds=int(cv), by_class=by_class)
    splitter = check_cv(cv, y, classifier=True)
    given_folds = list(splitter.split(np.zeros((len(y), 1)), y, groups))
    check_folds(given_folds, weights, name=f"cv={cv!r} of {owner}")
    return [held for _, held in given_folds if weights[held].any()]


def hold_out_in_folds(y: Array, groups: Any, weights: Array, *, n_folds: int, by_class: bool) -> list[Array]:
    """Return the rows that each of so many folds holds out, of those that have a weight."""
    if groups is not None and np.shape(groups) != (len(y),):
        raise InputError(f"{len(y)} rows but groups of shape {np.shape(groups)}; expected one for each row")
    present = np.flatnonzero(weights)
    present_groups = None if groups is None else np.asarray(groups)[present]
    folds = make_folds(y[present], present_groups, n_folds=n_folds, by_class=by_class)
    return [present[held] for _, held in folds]


def check_folds(folds: Folds, weights: Array, name: str) -> None:
    """Check that each row is held out once at most, and that a fold trains on all other rows.

    A fold must not hold out all rows that have a weight. `name` says where the folds come from.
    """
    is_held_once = are_distinct(np.concatenate([held for _, held in folds]))
    rows_of_fold = [np.concatenate(fold) for fold in folds]
    is_complete = all(len(rows) == len(weights) and are_distinct(rows) for rows in rows_of_fold)
    if not (is_complete and is_held_once):
        raise InputError(
            f"{name} holds rows out twice, or trains on fewer rows than all others; "
            "expected folds such as those of KFold, StratifiedKFold or GroupKFold"
        )
    if any(not weights[train].any() for train, _ in folds):
        raise InputError(f"{name}: a fold holds out all rows that have a weight; expected some to train on")


def are_distinct(rows: Array) -> bool:
    """Check that no row occurs twice."""
    return len(np.unique(rows)) == len(rows)


def select_learnable_rows(y: Array, train: Array, held: Array) -> Array:
    """Return the held-out rows whose class is among those that are trained on."""
    rows: Array = held[np.isin(y[held], y[train])]
    return rows


def are_in_shared_classes(codes: Array, folds: Array, weights: Array) -> NDArray[np.bool_]:
    """Check which rows have a class that other folds can learn: one with rows of a positive weight in two folds.

    `codes` are the classes of the rows, `folds` the folds that hold them out; :data:`NO_FOLD` counts as a fold here.
    """
    n_rows = np.zeros((codes.max() + 1, folds.max() + 2), np.int64)  # by class and fold, NO_FOLD first
    np.add.at(n_rows, (codes, folds + 1), weights > 0)
    n_folds_of_class = (n_rows > 0).sum(axis=1)
    is_shared: NDArray[np.bool_] = (n_folds_of_class > 1)[codes]
    return is_shared


def draw_validation_rows(targets: Array, share: float, generator: np.random.Generator) -> NDArray[np.bool_] | None:
    """Choose rows to judge training by, each class or combination of labels by its share; None if there are too few.

    The only row of a class, or the only one with one of its labels, is not chosen. The targets are codes of classes, or
    for each output 0 and 1, or values. The answer has a boolean for each row.
    """
    n_wanted = int(len(targets) * share)
    if n_wanted < MIN_VALIDATION_ROWS:
        return None

    # Order the rows by stratum, at random within each.
    strata, is_needed = find_strata(targets)
    order = np.lexsort((generator.random(len(targets)), strata))
    order = order[~is_needed[order]]
    n_wanted = min(n_wanted, len(order) // 2)
    if n_wanted < MIN_VALIDATION_ROWS:
        return None

    # Take rows at even distances along the strata.
    positions = (np.arange(n_wanted) + generator.random()) * len(order) / n_wanted
    is_chosen = np.zeros(len(targets), dtype=bool)
    is_chosen[order[positions.astype(np.int64)]] = True
    return is_chosen


def find_strata(targets: Array) -> tuple[Array, Array]:
    """Return the stratum of each row, and whether it is the only row of its class or with one of its labels."""
    if targets.ndim == 1:
        return targets, np.bincount(targets)[targets] == 1
    has_labels = np.isin(targets, (0, 1)).all()
    if not has_labels:  # values have no strata
        return np.zeros(len(targets), np.int64), np.zeros(len(targets), dtype=bool)
    strata = np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
    is_rare_label = targets.sum(axis=0) == 1
    is_needed = ((targets == 1) & is_rare_label).any(axis=1)
    return strata, is_needed


def draw_rows_of_each_class(labels: Array, n_rows: int, generator: np.random.Generator) -> Array:
    """Draw the same number of rows of each class, without replacement; the rows are returned class by class."""
    draws = [generator.choice(np.flatnonzero(labels == label), n_rows, replace=False) for label in np.unique(labels)]
    return np.concatenate(draws)


def rank_within_classes(labels: Array) -> Array:
    """Return the position of each row among the rows of its class, from 0."""
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        is_own = labels == label
        rank[is_own] = np.arange(is_own.sum())
    return rank


def are_held_out_by_name(names: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose rows by a hash of their items' names: a name is held out, or is not, whatever other rows there are.

    `share` is the expected share of the names that are held out; another seed holds out other names.
    """
    return np.array([hash_to_unit_interval(f"{seed}:{name}") < share for name in names], bool)


def hash_to_unit_interval(text: str) -> float:
    """Return a number from 0 to below 1 that depends on the text alone."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def draw_sample(targets: Array, size: int) -> NDArray[np.intp]:
    """Return the positions of at most so many items, each class or combination of labels in its share."""
    if len(targets) <= size:
        return np.arange(len(targets))
    generator = np.random.default_rng(0)
    is_vector_of_values = targets.ndim == 1 and targets.dtype.kind == "f"
    strata = find_strata(targets[:, np.newaxis] if is_vector_of_values else targets)[0]
    order = np.lexsort((generator.random(len(targets)), strata))
    places = np.arange(size) * len(targets) // size
    return np.sort(order[places])
