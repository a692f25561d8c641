"""What a multilayer perceptron learns from: weighted rows, merged where equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .perceptron import Array

MERGED_ROWS = 4096
"""Among at most so many rows, equal ones are made one: weights then mean exactly what repetition does."""


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
