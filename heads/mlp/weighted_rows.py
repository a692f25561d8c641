"""Rows of features with their targets and weights, merged where they are equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .perceptron import Array

MAX_ROWS_TO_MERGE = 4096
"""Among at most so many rows equal ones are merged: integer weights then mean exactly what repetition does."""


@dataclass(frozen=True)
class WeightedRows:
    """Features, targets and weights to train on.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64
    target : ndarray of shape (n_rows,), int64, or (n_rows, n_outputs), float
        Codes of classes, or a value for each output.
    weight : ndarray of shape (n_rows,) or, for training, that of ``target``, float64
        Positive.
    """

    X: Array
    target: Array
    weight: Array

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: Array) -> WeightedRows:
        """Return some rows.

        Parameters
        ----------
        rows : ndarray of int or bool
        """
        return WeightedRows(self.X[rows], self.target[rows], self.weight[rows])

    def merge_equal(self) -> WeightedRows:
        """Return distinct rows, in the order of their values, with the sums of their weights; many rows as they are."""
        if len(self) > MAX_ROWS_TO_MERGE:
            return self
        keys = np.column_stack([self.X.astype(np.float64), self.target.astype(np.float64)])
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        weight = np.bincount(inverse.reshape(-1), self.weight)
        return WeightedRows(self.X[first], self.target[first], weight)
