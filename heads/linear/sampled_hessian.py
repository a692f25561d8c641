"""The approximate inverse of the logistic loss's Hessian, from a sample of the rows: what L-BFGS starts from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .matrix_product import multiply_matrices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from .feature_blocks import Eigenbasis, FeatureBlocks

InverseHessian = Callable[["Tensor"], "Tensor"]
"""Multiplies vectors ``(..., rank + 1, n_outputs)`` by the approximate inverse Hessian."""

MIN_SAMPLED_ROWS = 16384
MIN_SAMPLED_ROWS_PER_DIRECTION = 32
MIN_ROWS_PER_DIRECTION_OF_CLASS = 2
"""Rows that are drawn for the block of a class, for each direction."""
MAX_WEIGHTS_OF_FULL_HESSIAN = 1024
"""Up to so many weights, the Hessian is not divided into blocks."""
ROWS_PER_WEIGHT_OF_FULL_HESSIAN = 8
MIN_ROWS_PER_WEIGHT_OF_FULL_HESSIAN = 4
MAX_SQUARED_SIZE_OF_BLOCK_PER_ROW = 16
"""With fewer rows than these two demand, passes over them cost less than the Hessian that would save some."""
MAX_BYTES_OF_BLOCKS = 2**29
"""Of the blocks of all classes; larger ones are replaced by their diagonals."""
MAX_RIDGES = 6
"""Number of attempts to invert with a ridge, each ten times the last; the first is the rounding of the diagonal."""
SMALLEST_CURVATURE = 1e-6
RELATIVE_RIDGE = 1e-5
"""Share of a block's mean diagonal that is added to it, as a sample may have too few rows."""


class SampledHessian:
    """The Hessian of the logistic loss, estimated from evenly spaced rows of centred blocks.

    Points are weights ``(rank + 1, n_outputs)``, penalties ``(rank + 1, 1)``. With `has_sigmoids` each output has a
    sigmoid of its own, instead of a softmax of all.
    """

    def __init__(
        self,
        blocks: FeatureBlocks,
        basis: Eigenbasis,
        weights: NDArray[np.float64],
        *,
        has_sigmoids: bool,
        has_intercept: bool,
    ) -> None:
        self.has_sigmoids = has_sigmoids
        self.n_rows = len(blocks)
        n_wanted = max(MIN_SAMPLED_ROWS, MIN_SAMPLED_ROWS_PER_DIRECTION * len(basis.variances))
        step = max(1, len(blocks) // n_wanted)
        self.rows = sample_rows(blocks, basis, step, intercept=float(has_intercept))  # (n_sampled, rank + 1)
        shares = weights[::step]
        self.shares = blocks.to_tensor(shares / shares.sum())  # (n_sampled,)
        self._mean_squares = blocks.to_tensor(basis.mean_squares)  # (rank + 1, 1)

    def invert_by_directions(self, point: Tensor, penalty: Tensor) -> InverseHessian:
        """Invert the Hessian's diagonal, as if directions and outputs were independent."""
        curvature = self._compute_curvatures(point).sum(0).clamp_min(SMALLEST_CURVATURE)  # (n_outputs,)
        diagonal = self._mean_squares * curvature + penalty  # (rank + 1, n_outputs)
        return lambda vectors: vectors / diagonal

    def invert_by_classes(self, point: Tensor, penalty: Tensor) -> InverseHessian:
        """Invert a block of the Hessian for each class, as if classes were independent.

        Rows are drawn in proportion to their curvature, evenly along the data. Blocks that would be too large together,
        or cost more than they save, are replaced by their diagonals. Where there are few weights, the whole Hessian is
        inverted.
        """
        size, n_outputs = point.shape
        n_weights = size * n_outputs
        if n_weights <= MAX_WEIGHTS_OF_FULL_HESSIAN and not self.has_sigmoids:
            if self.n_rows < MIN_ROWS_PER_WEIGHT_OF_FULL_HESSIAN * n_weights:
                return self.invert_by_directions(point, penalty)
            inverse = invert_positive_definite(self.compute_whole(point, penalty))
            return lambda vectors: multiply_flattened(inverse, vectors)

        has_few_rows = size**2 > MAX_SQUARED_SIZE_OF_BLOCK_PER_ROW * self.n_rows
        if has_few_rows or size * n_weights * point.element_size() > MAX_BYTES_OF_BLOCKS:
            return self.invert_by_directions(point, penalty)
        n_rows = max(MIN_ROWS_PER_DIRECTION_OF_CLASS * size, len(self.rows) // n_outputs)
        inverses = point.new_empty(n_outputs, size, size)
        for output, curvature in enumerate(self._compute_curvatures(point).T):
            block = sample_block(self.rows, curvature, n_rows)
            self._add_to_diagonal(block, curvature.sum(), penalty)
            inverses[output] = invert_positive_definite(block)
        return lambda vectors: multiply_by_output(inverses, vectors)

    def compute_whole(self, point: Tensor, penalty: Tensor) -> Tensor:
        """Return the whole Hessian of a softmax: ``sum of w x x' (diag(p) - p p')``, by outputs and directions."""
        size, n_outputs = point.shape
        rows, shares = self.thin(ROWS_PER_WEIGHT_OF_FULL_HESSIAN * size * n_outputs)

        # The products of different outputs, -p p', then the blocks of each output on the diagonal.
        probabilities = (rows @ point).softmax(1)  # (n_rows, n_outputs)
        scaled = (probabilities[:, :, None] * rows[:, None]).flatten(1)  # (n_rows, n_outputs * size)
        weighted = scaled * shares
        hessian = -multiply_matrices(weighted.T, scaled)  # (n_outputs * size, n_outputs * size)
        blocks = (weighted.T @ rows).view(n_outputs, size, size)
        curvatures = (shares * probabilities * (1 - probabilities)).sum(0)  # (n_outputs,)
        for output, block in enumerate(blocks):
            self._add_to_diagonal(block, curvatures[output], penalty)
            part = slice(output * size, (output + 1) * size)
            hessian[part, part] += block
        return hessian

    def thin(self, n_wanted: int) -> tuple[Tensor, Tensor]:
        """Return at least so many of the sampled rows, if there are, with shares ``(n_rows, 1)`` of the same sum."""
        every = max(1, len(self.rows) // n_wanted)
        shares = self.shares[::every, None]  # (n_rows, 1)
        return self.rows[::every], shares * (self.shares.sum() / shares.sum())

    def _add_to_diagonal(self, block: Tensor, curvature: Tensor, penalty: Tensor) -> None:
        """Add the penalty and a small ridge to the diagonal of an output's block, in place."""
        ridge = RELATIVE_RIDGE * curvature.clamp_min(SMALLEST_CURVATURE) * self._mean_squares[:, 0]
        block.diagonal().add_(penalty[:, 0] + ridge)

    def _compute_curvatures(self, point: Tensor) -> Tensor:
        """Return ``p (1 - p)`` times the row's share, for each row of the sample and each output."""
        scores = self.rows @ point  # (n_sampled, n_outputs)
        probabilities = scores.sigmoid() if self.has_sigmoids else scores.softmax(1)
        curvatures: Tensor = probabilities * (1 - probabilities) * self.shares[:, None]
        return curvatures


def sample_rows(blocks: FeatureBlocks, basis: Eigenbasis, step: int, intercept: float) -> Tensor:
    """Return every so many rows in the eigenbasis, the intercept last.

    One allocation: many small ones would fragment the heap.
    """
    to_basis = blocks.to_tensor(basis.block_vectors)  # (n_features, rank)
    n_sampled = len(range(0, len(blocks), step))
    rows = to_basis.new_full((n_sampled, to_basis.shape[1] + 1), intercept)
    first = 0
    for place, block in blocks:
        sampled = block[-place.start % step :: step] @ to_basis  # (n_sampled_of_block, rank)
        rows[first : first + len(sampled), :-1] = sampled
        first += len(sampled)
    return rows


def sample_block(rows: Tensor, curvature: Tensor, n_drawn: int) -> Tensor:
    """Return a class's block from so many of the rows, each standing for the same part of the curvature."""
    import torch

    cumulative = curvature.double().cumsum(0)
    total = cumulative[-1]
    marks = (torch.arange(n_drawn, dtype=cumulative.dtype, device=cumulative.device) + 0.5) / n_drawn * total
    last = len(cumulative) - 1
    drawn = rows[torch.searchsorted(cumulative, marks).clamp_max(last)]  # (n_drawn, rank + 1)
    return multiply_matrices(drawn.T, drawn) * (float(total) / n_drawn)


def invert_positive_definite(matrix: Tensor) -> Tensor:
    """Return the inverse by Cholesky's decomposition; if rounding prevents that, with a ridge, added in place."""
    import torch

    ridge = torch.finfo(matrix.dtype).eps * matrix.diagonal().amax()
    factor, failure = torch.linalg.cholesky_ex(matrix)
    for _ in range(MAX_RIDGES):
        if not failure.any():
            break
        matrix.diagonal().add_(ridge)
        ridge *= 10
        factor, failure = torch.linalg.cholesky_ex(matrix)
    return torch.cholesky_inverse(factor)


def multiply_flattened(inverse: Tensor, vectors: Tensor) -> Tensor:
    """Multiply all numbers of each ``(..., size, n_outputs)``, by outputs, by one matrix, which is symmetric."""
    by_output = vectors.transpose(-1, -2)  # (..., n_outputs, size)
    product: Tensor = (by_output.flatten(-2) @ inverse).view(by_output.shape)
    return product.transpose(-1, -2)  # (..., size, n_outputs)


def multiply_by_output(inverses: Tensor, vectors: Tensor) -> Tensor:
    """Multiply each output's column of ``(..., size, n_outputs)`` by its matrix, which is symmetric."""
    columns = vectors.reshape(-1, *vectors.shape[-2:])  # (n_vectors, size, n_outputs)
    by_output = columns.permute(2, 0, 1).contiguous()  # (n_outputs, n_vectors, size)
    return (by_output @ inverses).permute(1, 2, 0).reshape(vectors.shape)
