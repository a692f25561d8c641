"""Singular values of features, and targets in the basis of their left vectors, from the smaller Gram matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

ROWS_AT_ONCE = 8192
COLUMNS_AT_ONCE = 1024


@dataclass(frozen=True)
class Decomposition:
    """The singular values of features ``(n_rows, n_features)``, and targets in the basis of their left vectors.

    `eigenvalues` are those of the Gram matrix that are not zero, ``(rank,)``; `projected` is ``(rank, n_outputs)``, the
    products of the left singular vectors with the columns of the targets. `squared_lengths` are those of the rows.
    """

    n_rows: int
    n_features: int
    eigenvalues: FloatArray
    projected: FloatArray
    squared_lengths: FloatArray


def iterate_blocks(X: Array) -> Iterator[FloatArray]:
    """Yield the rows in float64, some at a time."""
    for start in range(0, len(X), ROWS_AT_ONCE):
        yield X[start : start + ROWS_AT_ONCE].astype(np.float64)


def decompose(X: Array, offset: FloatArray, columns: Any) -> Decomposition:
    """Decompose features less an offset ``(n_features,)``, and project the columns of targets."""
    n_rows, n_features = X.shape
    rounding = n_rows * (offset**2).sum() * (4 * np.finfo(np.float64).eps) ** 2
    if n_rows > n_features:
        gram, sums, squared_lengths = sum_over_rows(X, offset, columns)
        eigenvalues, vectors = find_eigenvectors(gram, size=n_rows, rounding=rounding)
        products = vectors.T @ sums  # (rank, n_outputs)
        projected = products / np.sqrt(eigenvalues)[:, None]
    else:
        gram = sum_over_columns(X, offset)
        squared_lengths = gram.diagonal().copy()
        eigenvalues, vectors = find_eigenvectors(gram, size=n_features, rounding=rounding)
        projected = np.asarray((columns.T @ vectors).T)
    return Decomposition(n_rows, n_features, eigenvalues, projected, squared_lengths)


def sum_over_rows(X: Array, offset: FloatArray, columns: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the Gram matrix of features, their products with the columns of targets, and squared lengths of rows."""
    n_features = X.shape[1]
    gram = np.zeros((n_features, n_features))
    sums = np.zeros((n_features, columns.shape[1]))
    squared_lengths = []
    for number, values in enumerate(iterate_blocks(X)):
        start = number * ROWS_AT_ONCE
        values -= offset
        gram += values.T @ values
        sums += (columns[start : start + len(values)].T @ values).T
        squared_lengths.append(np.einsum("ij,ij->i", values, values))
    return gram, sums, np.concatenate(squared_lengths)


def sum_over_columns(X: Array, offset: FloatArray) -> FloatArray:
    """Return the Gram matrix of rows, for fewer rows than features."""
    gram = np.zeros((len(X), len(X)))
    for start in range(0, X.shape[1], COLUMNS_AT_ONCE):
        part = slice(start, start + COLUMNS_AT_ONCE)
        values = X[:, part].astype(np.float64) - offset[part]
        gram += values @ values.T
    return gram


def compute_smaller_gram(X: Array, offset: FloatArray) -> FloatArray:
    """Return the Gram matrix of the rows of features, or of the columns if these are fewer."""
    if len(X) <= X.shape[1]:
        return sum_over_columns(X, offset)
    no_targets = np.empty((len(X), 0))
    return sum_over_rows(X, offset, no_targets)[0]


def find_eigenvectors(gram: FloatArray, *, size: int, rounding: float) -> tuple[FloatArray, FloatArray]:
    """Return the eigenvalues of a Gram matrix that are larger than its rounding, and their vectors.

    `size` is the other dimension of the features, `rounding` what equal rows leave when their mean is subtracted.
    """
    eigenvalues, vectors = np.linalg.eigh(gram)
    relative_rounding = max(len(gram), size) * np.finfo(np.float64).eps
    smallest = max(eigenvalues[-1] * relative_rounding, rounding, np.finfo(np.float64).tiny)
    is_kept = eigenvalues > smallest
    return eigenvalues[is_kept], vectors[:, is_kept]
