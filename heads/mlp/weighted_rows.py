"""What a multilayer perceptron learns from: weighted rows, merged where equal, and some held out to judge by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..targets import given_weights
from .perceptron import Array

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
        As in :func:`topwork.heads.targets.class_weights`.
    """
    given, weight = given_weights(class_weight, labels), rows.weight[:, None]
    if given is not None:
        factors: Array = np.where(rows.target == 1, given, 1.0)
        return weight * factors
    ones, total = rows.weight @ rows.target, rows.weight.sum()
    safe = (ones > 0) & (ones < total)  # a label that always or never applies has nothing to balance
    of_ones = np.where(safe, total / (2 * np.where(safe, ones, 1)), 1.0)
    of_zeros = np.where(safe, total / (2 * np.where(safe, total - ones, 1)), 1.0)
    balanced: Array = weight * np.where(rows.target == 1, of_ones, of_zeros)
    return balanced
