"""Feature matrices in blocks of rows: arrays and memory maps of any size, centred on the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

BLOCK = 4096
SHORT_BLOCK = 1024
RESIDENT_BYTES = 2**29
"""Centred features of up to this size are kept; larger ones are read block by block in every pass."""
SMALL = 2**20
"""Numbers of a matrix that is computed with in float64: it takes no time, and a tiny loss is not lost in rounding."""
SMALLEST_VARIANCE = 1e-7
"""Of the largest; what a sum in float32 tells of directions below it is rounding."""
NO_VARIANCE = 1e-12
NEGLIGIBLE = 1e-15
"""Of the size of the largest feature."""
USUAL = 20
"""Powers of two that features may be away from one."""


class FeatureBlocks:
    """Rows of a matrix minus the mean, in an order of one's own, a block at a time.

    Parameters
    ----------
    X : ndarray or memmap of shape (n_rows, n_features)
        Of float16, float32 or float64. The last is kept, and so are small matrices; all others are computed with in
        float32.
    order : ndarray of int
        Which rows are read, and in which order.
    device : str or torch.device
    edges : sequence of int
        Places in the order where a block had better end, ascending.
    """

    def __init__(
        self, X: NDArray[Any], order: NDArray[np.integer[Any]], device: Any, edges: Sequence[int] = ()
    ) -> None:
        self.X, self.order, self.device = X, order, device
        exact = X.dtype == np.float64 or X.size <= SMALL
        self.dtype = np.dtype(np.float64 if exact else np.float32)
        self.mean: NDArray[np.float64] = np.zeros(X.shape[1])
        self.factor: NDArray[np.float64] = np.ones(X.shape[1])
        self._kept: list[Tensor] | None = None
        self._parts = _divided(len(order), edges)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield where in the order a block lies, and its rows ``(block, n_features)``."""
        yield from zip(self._parts, map(self._block, self._parts) if self._kept is None else self._kept, strict=True)

    def centre(self, mean: NDArray[np.float64]) -> None:
        """Subtract a mean from now on, and keep the blocks if they are small.

        Parameters
        ----------
        mean : ndarray of shape (n_features,)
        """
        self.mean, self._kept = mean, None
        if len(self) * self.X.shape[1] * self.dtype.itemsize <= RESIDENT_BYTES:
            self._kept = [block for _, block in self]

    def stretch(self, factor: NDArray[np.float64]) -> None:
        """Multiply features from now on.

        Parameters
        ----------
        factor : ndarray of shape (n_features,)
        """
        import torch

        self.factor = factor
        for block in self._kept or [] if (factor != 1).any() else []:
            block.mul_(torch.from_numpy(factor.astype(self.dtype)).to(self.device))

    def _block(self, part: slice) -> Tensor:
        import torch

        rows: Any = self.order[part]
        if rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            rows = slice(rows[0], rows[-1] + 1)
        block = torch.from_numpy(np.array(self.X[rows])).to(self.device)
        mean = torch.from_numpy(self.mean.astype(self.dtype)).to(self.device)
        centred = block.to(mean.dtype).sub_(mean)
        if (self.factor != 1).any():
            centred.mul_(torch.from_numpy(self.factor.astype(self.dtype)).to(self.device))
        return centred


def _divided(count: int, edges: Sequence[int]) -> list[slice]:
    """Divide rows into blocks of about one size that end at the edges, but for edges that would leave a short one."""
    bounds, first = [0], 0
    for edge in [*edges, count]:
        if edge == count or edge - first >= SHORT_BLOCK:
            pieces = -(-(edge - first) // BLOCK)
            bounds += [first + (edge - first) * (piece + 1) // pieces for piece in range(pieces)]
            first = edge
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


@dataclass(frozen=True)
class Rotation:
    """Directions in which standardised features vary independently, the strongest first.

    Parameters
    ----------
    mean : ndarray of float64, shape (n_features,)
    scale : ndarray of float64, shape (n_features,)
        The standard deviations; one where a feature is constant, or nothing is standardised.
    block_scale : ndarray of float64, shape (n_features,)
        The same, for the features that the blocks have.
    vectors : ndarray of float64, shape (n_features, rank)
        Orthonormal, for standardised features.
    variances : ndarray of float64, shape (rank,)
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    block_scale: NDArray[np.float64]
    vectors: NDArray[np.float64]
    variances: NDArray[np.float64]


def rotation_of(blocks: FeatureBlocks, weights: NDArray[np.float64], standardize: bool, centre: bool) -> Rotation:
    """Return the eigenbasis of the features' Gram matrix, and let the blocks be centred from now on.

    Parameters
    ----------
    blocks : FeatureBlocks
    weights : ndarray of shape (n_rows,)
        Positive, in the order of the blocks.
    standardize : bool
    centre : bool
        Without it the mean is taken as zero, as an estimator without an intercept wants it.

    Raises
    ------
    ValueError
        If a feature is not a number, or infinite.
    """
    shares = weights / weights.sum()
    mean = _mean(blocks, shares)
    blocks.centre(mean if centre else np.zeros_like(mean))
    spread = _squares(blocks, shares, mean - blocks.mean)
    rounding = max(float(np.finfo(blocks.dtype.name).eps), len(blocks) * float(np.finfo(np.float64).eps))
    noise = (rounding * np.maximum(np.abs(mean), 1e-30)) ** 2
    scale = np.sqrt(np.where(spread > 10 * noise, spread, 1.0)) if standardize else np.ones_like(mean)
    blocks.stretch(_factor(np.sqrt(spread + (mean - blocks.mean) ** 2), scale))
    block_scale = scale * np.where(blocks.factor > 0, blocks.factor, 1.0)
    few = len(blocks) <= len(mean)
    vectors, variances = (_by_rows if few else _by_columns)(blocks, shares, block_scale)
    return Rotation(blocks.mean, scale, block_scale, vectors, variances)


def _factor(size: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return powers of two that bring features near to one, and zeros for those that are nothing beside the others.

    Tiny numbers lose digits, and processors are slow with products of them (docs/decisions/0009). Most features need no
    factor.
    """
    kept = size / scale > NEGLIGIBLE * max(float((size / scale).max()), 1e-300)
    powers = np.exp2(-np.round(np.log2(scale)))
    return np.where(kept, np.where(np.abs(np.log2(scale)) > USUAL, powers, 1.0), 0.0)


def _mean(blocks: FeatureBlocks, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = np.zeros(blocks.X.shape[1])
    for rows, block in blocks:
        mean += shares[rows] @ block.double().cpu().numpy()
    if not np.isfinite(mean).all():
        what = "NaN" if np.isnan(mean).any() else "infinity"
        raise ValueError(f"Input X contains {what}; expected finite numbers in every row and column")
    return mean


def _squares(blocks: FeatureBlocks, shares: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean squares of features minus what their mean still is."""
    import torch

    squares, rest = np.zeros(len(mean)), torch.tensor(mean, device=blocks.device)
    for rows, block in blocks:
        squares += shares[rows] @ (block.double() - rest).square().cpu().numpy()
    return squares


def _by_rows(
    blocks: FeatureBlocks, shares: NDArray[np.float64], scale: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Decompose the rows themselves, where they are few; directions without variance are left out."""
    rows = np.concatenate([block.double().cpu().numpy() for _, block in blocks]) / scale
    _, lengths, directions = np.linalg.svd(np.sqrt(shares)[:, None] * rows, full_matrices=False)
    kept = lengths**2 > NO_VARIANCE * max(lengths[0] ** 2, 1e-300)
    return directions[kept].T, lengths[kept] ** 2


def _by_columns(
    blocks: FeatureBlocks, shares: NDArray[np.float64], scale: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Decompose the Gram matrix: products of a block are summed in its own precision, blocks in float64."""
    import torch

    to = {"dtype": torch.float64, "device": blocks.device}
    gram, divisor = torch.zeros(len(scale), len(scale), **to), torch.tensor(scale, **to)
    for rows, block in blocks:
        weighted = block * torch.tensor(shares[rows, None], **to).sqrt().to(block.dtype)
        gram += weighted.T @ weighted
    variances, vectors = torch.linalg.eigh(gram / torch.outer(divisor, divisor))
    variances = variances.clamp_min(SMALLEST_VARIANCE * max(float(variances[-1]), 1e-300))
    return vectors.flip(1).cpu().numpy(), variances.flip(0).cpu().numpy()
