"""What a multilayer perceptron learns from: weighted rows, merged where equal, and some held out to judge by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from ..errors import InputError
from .mlp_network import Array

MERGED_ROWS = 4096
"""Among at most so many rows, equal ones are made one: weights then mean exactly what repetition does."""
FEWEST_HELD_OUT = 10
"""With fewer rows to judge by, early stopping would follow chance."""


@dataclass(frozen=True)
class Rows:
    """What is learned from.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64
    target : ndarray of shape (n_rows,), int64, or (n_rows, n_outputs), float
        Places of classes, or a value for each output.
    weight : ndarray of shape (n_rows,) or, for training, that of ``target``, float64
        Positive.
    """

    X: Array
    target: Array
    weight: Array

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: Array) -> Rows:
        """Return some rows.

        Parameters
        ----------
        rows : ndarray of int or bool
        """
        return Rows(self.X[rows], self.target[rows], self.weight[rows])

    def merged(self) -> Rows:
        """Return rows that are all different and in the order of their values, if they are few; else the same rows."""
        if len(self) > MERGED_ROWS:
            return self
        keys = np.column_stack([self.X.astype(np.float64), self.target.astype(np.float64)])
        _, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return Rows(self.X[first], self.target[first], np.bincount(place.reshape(-1), self.weight))


def held_out(target: Array, fraction: float, generator: np.random.Generator) -> Array | None:
    """Choose rows to judge by, each class or combination of labels by its share.

    A row stays in training if it is the only one of its class, or the only one with one of its labels.

    Parameters
    ----------
    target : ndarray of shape (n_rows,), int64, or (n_rows, n_outputs)
        Places of classes, labels as 0 and 1, or values.
    fraction : float
    generator : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n_rows,), bool, or None
        None if there would be too few.
    """
    count = int(len(target) * fraction)
    if count < FEWEST_HELD_OUT:
        return None
    groups, lonely = _groups(target)
    order = np.lexsort((generator.random(len(target)), groups))
    order = order[~lonely[order]]
    count = min(count, len(order) // 2)
    if count < FEWEST_HELD_OUT:
        return None
    places = (np.arange(count) + generator.random()) * len(order) / count  # evenly along the groups
    mask = np.zeros(len(target), dtype=bool)
    mask[order[places.astype(np.int64)]] = True
    return mask


def _groups(target: Array) -> tuple[Array, Array]:
    """Return the group of each row, and whether it is the only one with its class or with one of its labels."""
    if target.ndim == 1:
        return target, np.bincount(target)[target] == 1
    if not np.isin(target, (0, 1)).all():  # values have no groups
        return np.zeros(len(target), np.int64), np.zeros(len(target), dtype=bool)
    groups = np.unique(target, axis=0, return_inverse=True)[1].reshape(-1)
    return groups, ((target == 1) & (target.sum(axis=0) == 1)).any(axis=1)


def classes_or_labels(y: Any) -> Array:
    """Return classes as a vector, or labels as a matrix.

    Parameters
    ----------
    y : array or sparse matrix of shape (n_rows,) or (n_rows, n_labels)

    Returns
    -------
    ndarray of shape (n_rows,) or (n_rows, n_labels)

    Raises
    ------
    InputError
        If there are several columns with other values than 0 and 1.
    """
    check_classification_targets(y)
    if type_of_target(y, input_name="y") != "multilabel-indicator":
        flat: Array = column_or_1d(y, warn=True)
        return flat
    labels: Array = y.toarray() if issparse(y) else np.asarray(y)
    if not np.isin(labels, (0, 1)).all():
        raise InputError(
            f"y has several columns, with the values {np.unique(labels).tolist()}; "
            "expected 0 and 1 for labels that apply or not, or one column of classes"
        )
    return labels


def places_of(y: Array, classes: Array) -> Array:
    """Return the place of each label among the classes.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
    classes : ndarray of shape (n_classes,)
        Sorted.

    Returns
    -------
    ndarray of shape (n_rows,), int64

    Raises
    ------
    InputError
        If a label is none of the classes.
    """
    found, places = np.unique(y, return_inverse=True)
    unknown = ~np.isin(found, classes)
    if unknown.any():
        raise InputError(f"y holds {found[unknown].tolist()}; expected only the classes {classes.tolist()}")
    return np.searchsorted(classes, found)[places].astype(np.int64)


def class_weights(class_weight: Any, classes: Array, rows: Rows) -> Array:
    """Return the weight of each row, times that of its class.

    Parameters
    ----------
    class_weight : None, "balanced" or dict
    classes : ndarray of shape (n_classes,)
    rows : Rows
        With places of classes.

    Raises
    ------
    InputError
        If ``class_weight`` is something else, or names no class for want of which one has no weight.
    """
    given = _given_weights(class_weight, classes)
    if given is None:
        sums = np.bincount(rows.target, rows.weight, len(classes))
        given = sums.sum() / (len(classes) * sums)
    weights: Array = rows.weight * given[rows.target]
    return weights


def label_weights(class_weight: Any, labels: Array, rows: Rows) -> Array:
    """Return a weight for each row and label.

    Parameters
    ----------
    class_weight : None, "balanced" or dict
    labels : ndarray of shape (n_labels,)
        Numbers of columns.
    rows : Rows
        With labels as 0 and 1.

    Raises
    ------
    InputError
        As in :func:`class_weights`.
    """
    given, weight = _given_weights(class_weight, labels), rows.weight[:, None]
    if given is not None:
        factors: Array = np.where(rows.target == 1, given, 1.0)
        return weight * factors
    ones, total = rows.weight @ rows.target, rows.weight.sum()
    safe = (ones > 0) & (ones < total)  # a label that always or never applies has nothing to balance
    of_ones = np.where(safe, total / (2 * np.where(safe, ones, 1)), 1.0)
    of_zeros = np.where(safe, total / (2 * np.where(safe, total - ones, 1)), 1.0)
    balanced: Array = weight * np.where(rows.target == 1, of_ones, of_zeros)
    return balanced


def _given_weights(class_weight: Any, classes: Array) -> Array | None:
    """Return a weight for each class, or None if they are to be balanced."""
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, str) and class_weight == "balanced":
        return None
    if not isinstance(class_weight, dict):
        raise InputError(
            f"class_weight is {class_weight!r}; expected None, 'balanced', or a dict of classes and weights"
        )
    names = classes.tolist()
    unknown, missing = [key for key in class_weight if key not in names], [n for n in names if n not in class_weight]
    if unknown and missing:
        raise InputError(f"class_weight names {unknown}, which are no classes; expected some of {names}")
    given = np.array([class_weight.get(name, 1.0) for name in names], dtype=np.float64)
    if not (np.isfinite(given).all() and (given > 0).all()):
        raise InputError(f"class_weight is {class_weight!r}; expected positive, finite weights")
    return given
