"""Feature matrices in blocks of rows: arrays and memory maps of any size, centred and standardised on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

BLOCK = 4096
RANK = 1e-6
"""Directions whose variance is below this share of the largest are left out (of float64: its square)."""


class FeatureBlocks:
    """Rows of a matrix, minus the mean, in an order of one's own; no more than a block of them is copied.

    Parameters
    ----------
    X : ndarray or memmap of shape (n_rows, n_features)
        float16, float32 or float64; the last is kept, the others are computed with in float32.
    order : ndarray of int, optional
        In which order rows are read; by default theirs.
    device : str
    """

    def __init__(self, X: NDArray[Any], order: NDArray[np.intp] | None = None, device: str = "cpu") -> None:
        self.X, self.order, self.device = X, order, device
        self.dtype = np.dtype(np.float64 if X.dtype == np.float64 else np.float32)
        self.mean: NDArray[np.float64] = np.zeros(X.shape[1])

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        """Yield positions (a slice or an array of them) and rows ``(block, n_features)``."""
        import torch

        mean = self.mean.astype(self.dtype)
        for first in range(0, len(self.X), BLOCK):
            rows: Any = slice(first, first + BLOCK)
            if self.order is not None:
                rows = self.order[rows]
            block = self.X[rows].astype(self.dtype)
            block -= mean
            yield rows, torch.from_numpy(block).to(self.device)


@dataclass(frozen=True)
class Rotation:
    """Directions in which standardised features vary independently, the strongest first.

    Parameters
    ----------
    mean : ndarray of float64, shape (n_features,)
    scale : ndarray of float64, shape (n_features,)
        The standard deviations; one where a feature is constant, or nothing is standardised.
    matrix : ndarray of float64, shape (n_features, rank)
        Takes centred features to the directions.
    variances : ndarray of float64, shape (rank,)
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    matrix: NDArray[np.float64]
    variances: NDArray[np.float64]


def rotation_of(blocks: FeatureBlocks, weights: NDArray[np.float64], standardize: bool, centre: bool) -> Rotation:
    """Return the eigenbasis of the features' Gram matrix, and let the blocks be centred from now on.

    Parameters
    ----------
    blocks : FeatureBlocks
    weights : ndarray of shape (n_rows,)
    standardize : bool
    centre : bool
        Without it the mean is taken as zero, as an estimator without an intercept wants it.

    Raises
    ------
    ValueError
        If a feature is not a number, or infinite.
    """
    total = weights.sum()
    mean = _mean(blocks, weights) / total
    if not np.isfinite(mean).all():
        raise ValueError(_not_finite(mean))
    blocks.mean = mean if centre else np.zeros_like(mean)
    gram = _gram(blocks, weights) / total
    square = np.diag(gram) if centre else np.diag(gram) - mean**2
    noise = (np.finfo(blocks.dtype).eps * np.maximum(np.abs(mean), 1e-30)) ** 2
    scale = np.sqrt(np.where(square > 10 * noise, square, 1.0)) if standardize else np.ones_like(mean)
    variances, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    kept = variances > max(variances[-1], 1e-300) * (RANK if blocks.dtype == np.float32 else RANK**2)
    variances, vectors = variances[kept][::-1], vectors[:, kept][:, ::-1]
    return Rotation(blocks.mean, scale, vectors / scale[:, None], variances)


def _mean(blocks: FeatureBlocks, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", over="ignore"):
        sums = [block.cpu().numpy().astype(np.float64).T @ weights[rows] for rows, block in blocks]
    return np.sum(sums, axis=0)


def _gram(blocks: FeatureBlocks, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum products of a block in its own precision, blocks in float64."""
    gram = np.zeros((len(blocks.mean), len(blocks.mean)))
    for rows, block in blocks:
        root = np.sqrt(weights[rows]).astype(blocks.dtype)
        weighted = block.cpu().numpy() * root[:, None]
        gram += weighted.T @ weighted
    return gram


def _not_finite(mean: NDArray[np.float64]) -> str:
    what = "NaN" if np.isnan(mean).any() else "infinity"
    return f"Input X contains {what}; expected finite numbers in every row and column"
