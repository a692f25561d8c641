"""Feature matrices in blocks of rows: arrays and memory maps of any size, centred and scaled block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..standardisation import compute_scale

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ROWS_PER_BLOCK = 4096
MIN_ROWS_PER_BLOCK = 1024
MAX_RESIDENT_BYTES = 2**29
"""Centred features of up to this size are kept in memory; larger ones are read block by block in every pass."""
MAX_GPU_MEMORY_SHARE = 0.5
"""The same on a GPU: share of its free memory, as every block would be sent to it again in every pass."""
MAX_SIZE_IN_FLOAT64 = 2**17
"""Up to so many numbers a matrix is computed with in float64: it costs no time, and a tiny loss is not rounded away."""
SMALLEST_RELATIVE_VARIANCE = 1e-7
"""Share of the largest variance; in float32, smaller ones of a Gram matrix are rounding."""
SMALLEST_RELATIVE_VARIANCE_OF_ROWS = 1e-12
"""The same for the decomposition of rows in float64; directions below it are left out."""
SMALLEST_RELATIVE_SIZE = 1e-15
"""Share of the largest feature below which a feature is negligible."""
MAX_EXPONENT = 20
"""Powers of two by which the scale of features may differ from one before they are multiplied by a factor."""
VARIANCE_TO_ROUNDING_RATIO = 10
"""A feature whose variance is no larger than this many times its rounding is constant."""
SMALLEST_MEAN = 1e-30
SMALLEST_DIVISOR = 1e-300
"""Floor of the largest size or variance, where all are zero."""


class FeatureBlocks:
    """Rows of a matrix minus the mean, in any order, a block at a time.

    Matrices of float64 and small ones are computed with in float64, all others in float32. `order` says which rows are
    read, and in which order; `edges` are preferred ends of blocks, as positions in the order, ascending.
    """

    def __init__(
        self, X: NDArray[Any], order: NDArray[np.integer[Any]], device: Any, edges: Sequence[int] = ()
    ) -> None:
        import torch

        self.X = X
        self.order = order
        self.device = device
        is_exact = X.dtype == np.float64 or X.size <= MAX_SIZE_IN_FLOAT64
        self.dtype = np.dtype(np.float64 if is_exact else np.float32)
        self.torch_dtype = torch.float64 if is_exact else torch.float32
        self.mean: NDArray[np.float64] = np.zeros(X.shape[1])
        self.factor: NDArray[np.float64] = np.ones(X.shape[1])
        self._resident: list[Tensor] | None = None
        self._places = divide_rows(len(order), edges)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the place of a block in the order, and its rows ``(n_rows_of_block, n_features)``."""
        if self._resident is not None:
            yield from zip(self._places, self._resident, strict=True)
            return
        for place in self._places:
            yield place, self.read_block(place)

    def centre(self, mean: NDArray[np.float64]) -> None:
        """Subtract a mean from all blocks that are read from now on, and keep the blocks if they are small."""
        self.mean = mean
        self._resident = None
        n_bytes = len(self) * self.X.shape[1] * self.dtype.itemsize
        if n_bytes <= find_resident_bytes(self.device):
            self._resident = [self.read_block(place) for place in self._places]

    def multiply_by(self, factor: NDArray[np.float64]) -> None:
        """Multiply the centred features of all blocks by a factor for each feature."""
        self.factor = factor
        if self._resident is None or (factor == 1).all():
            return
        for block in self._resident:
            block.mul_(self.to_tensor(factor))

    def read_block(self, place: slice) -> Tensor:
        """Read the rows at a place in the order, and centre and multiply them."""
        import torch

        rows: Any = self.order[place]
        if (np.diff(rows) == 1).all():  # a slice of a memory map is read without a copy of the rows' numbers
            rows = slice(rows[0], rows[-1] + 1)
        block = torch.from_numpy(np.array(self.X[rows])).to(self.device)
        centred = block.to(self.torch_dtype).sub_(self.to_tensor(self.mean))
        if (self.factor != 1).any():
            centred.mul_(self.to_tensor(self.factor))
        return centred

    def to_tensor(self, array: NDArray[np.float64]) -> Tensor:
        """Copy an array, in the precision and on the device of the blocks."""
        import torch

        return torch.tensor(array, dtype=self.torch_dtype, device=self.device)


def find_resident_bytes(device: Any) -> int:
    """Return the size up to which centred features are kept on a device."""
    import torch

    if torch.device(device).type != "cuda":
        return MAX_RESIDENT_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return max(MAX_RESIDENT_BYTES, int(MAX_GPU_MEMORY_SHARE * free))


def divide_rows(n_rows: int, edges: Sequence[int]) -> list[slice]:
    """Divide rows into blocks of about one size that end at edges, except at edges that would leave a short block."""
    bounds = [0]
    for edge in [*edges, n_rows]:
        first = bounds[-1]
        n_between = edge - first
        if edge != n_rows and n_between < MIN_ROWS_PER_BLOCK:
            continue
        n_blocks = -(-n_between // ROWS_PER_BLOCK)
        bounds += [first + n_between * (number + 1) // n_blocks for number in range(n_blocks)]
    return [slice(first, last) for first, last in itertools.pairwise(bounds)]


@dataclass(frozen=True)
class Eigenbasis:
    """Directions in which standardised features vary independently, the strongest first.

    `scale` has the standard deviations, one where a feature is constant or nothing is standardised; `block_scale` has
    those of the blocks' features, which are multiplied by factors. `vectors` are orthonormal.
    """

    mean: NDArray[np.float64]  # (n_features,)
    scale: NDArray[np.float64]  # (n_features,)
    block_scale: NDArray[np.float64]  # (n_features,)
    vectors: NDArray[np.float64]  # (n_features, rank)
    variances: NDArray[np.float64]  # (rank,)

    @property
    def block_vectors(self) -> NDArray[np.float64]:
        """The directions ``(n_features, rank)`` for the features of the blocks."""
        return self.vectors / self.block_scale[:, None]

    @property
    def mean_squares(self) -> NDArray[np.float64]:
        """The mean squares ``(rank + 1, 1)`` of what the weights are multiplied by, the one of the intercept last."""
        return np.append(self.variances, 1.0)[:, None]


def compute_eigenbasis(
    blocks: FeatureBlocks, weights: NDArray[np.float64], *, standardize: bool, centre: bool
) -> Eigenbasis:
    """Compute the eigenbasis of the features' Gram matrix; raise ValueError if a feature is not a finite number.

    The blocks are centred, and multiplied by factors that keep numbers away from the limits of their precision.
    `weights` are positive, in the order of the blocks. Without `centre` the mean is taken as zero, as an estimator
    without an intercept needs it.
    """
    shares = weights / weights.sum()

    # Centre.
    mean = compute_mean(blocks, shares)
    blocks.centre(mean if centre else np.zeros_like(mean))
    remaining_mean = mean - blocks.mean

    # Standardise.
    variance = compute_variance(blocks, shares, remaining_mean)
    scale = np.ones_like(mean)
    if standardize:
        scale = compute_scale(variance, VARIANCE_TO_ROUNDING_RATIO * estimate_rounding(blocks, mean))
    size = np.sqrt(variance + remaining_mean**2)
    blocks.multiply_by(choose_factor(size, scale))
    block_scale = scale * np.where(blocks.factor > 0, blocks.factor, 1.0)

    # Decompose whichever is smaller, the rows or the Gram matrix.
    if len(blocks) <= len(mean):
        vectors, variances = decompose_rows(blocks, shares, block_scale)
    else:
        vectors, variances = decompose_gram_matrix(blocks, shares, block_scale)
    return Eigenbasis(mean=blocks.mean, scale=scale, block_scale=block_scale, vectors=vectors, variances=variances)


def estimate_rounding(blocks: FeatureBlocks, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the variance that a constant feature may seem to have by rounding."""
    rounding_of_number = float(np.finfo(blocks.dtype.name).eps)
    rounding_of_sum = len(blocks) * float(np.finfo(np.float64).eps)
    deviation = max(rounding_of_number, rounding_of_sum) * np.maximum(np.abs(mean), SMALLEST_MEAN)
    variance: NDArray[np.float64] = deviation**2
    return variance


def choose_factor(size: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return powers of two that bring features near to one, and zeros for those that are negligible.

    Tiny numbers lose digits, and processors are slow with products of them (docs/decisions/0009). Most features need no
    factor.
    """
    relative_size = size / scale
    is_negligible = relative_size <= SMALLEST_RELATIVE_SIZE * max(float(relative_size.max()), SMALLEST_DIVISOR)
    exponents = np.log2(scale)
    powers = np.exp2(-np.round(exponents))
    factor = np.where(np.abs(exponents) > MAX_EXPONENT, powers, 1.0)
    return np.where(is_negligible, 0.0, factor)


def compute_mean(blocks: FeatureBlocks, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each feature; raise ValueError if it is not a finite number."""
    mean = np.zeros(blocks.X.shape[1])
    for place, block in blocks:
        mean += average_rows(block.double(), shares[place])
    if not np.isfinite(mean).all():
        what = "NaN" if np.isnan(mean).any() else "infinity"
        raise ValueError(f"Input X contains {what}; expected finite numbers in every row and column")
    return mean


def compute_variance(
    blocks: FeatureBlocks, shares: NDArray[np.float64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean squares of the blocks' features minus their mean."""
    import torch

    variance = np.zeros(len(mean))
    mean_tensor = torch.tensor(mean, device=blocks.device)
    for place, block in blocks:
        squares = (block.double() - mean_tensor).square()
        variance += average_rows(squares, shares[place])
    return variance


def average_rows(rows: Tensor, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of float64 rows, each multiplied by its share; rows of a GPU are summed there."""
    if rows.device.type == "cpu":
        return shares @ rows.numpy()  # type: ignore[no-any-return]
    sums: NDArray[np.float64] = (rows.new_tensor(shares) @ rows).cpu().numpy()
    return sums


def decompose_rows(
    blocks: FeatureBlocks, shares: NDArray[np.float64], scale: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Decompose the rows themselves, where they are few; directions without variance are left out."""
    rows = np.concatenate([block.double().cpu().numpy() for _, block in blocks]) / scale
    weighted = np.sqrt(shares)[:, None] * rows
    _, lengths, directions = np.linalg.svd(weighted, full_matrices=False)
    variances = lengths**2
    largest = max(lengths[0] ** 2, SMALLEST_DIVISOR)
    is_kept = variances > SMALLEST_RELATIVE_VARIANCE_OF_ROWS * largest
    return directions[is_kept].T, variances[is_kept]


def decompose_gram_matrix(
    blocks: FeatureBlocks, shares: NDArray[np.float64], scale: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Decompose the Gram matrix: products of a block are summed in its own precision, blocks in float64."""
    import torch

    gram = torch.zeros(len(scale), len(scale), dtype=torch.float64, device=blocks.device)
    for place, block in blocks:
        roots = blocks.to_tensor(np.sqrt(shares[place, None]))  # (n_rows_of_block, 1)
        weighted = block * roots
        gram += weighted.T @ weighted
    divisor = gram.new_tensor(scale)
    variances, vectors = torch.linalg.eigh(gram / torch.outer(divisor, divisor))  # ascending
    smallest = SMALLEST_RELATIVE_VARIANCE * max(float(variances[-1]), SMALLEST_DIVISOR)
    variances = variances.clamp_min(smallest)
    return vectors.flip(1).cpu().numpy(), variances.flip(0).cpu().numpy()
