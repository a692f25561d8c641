"""The inverse of the logistic loss's Hessian, roughly: what L-BFGS starts from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .products import product

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from .feature_blocks import FeatureBlocks, Rotation

Inverse = Callable[["Tensor"], "Tensor"]
"""Takes vectors ``(..., rank + 1, n_outputs)`` to the inverse Hessian times them."""

SAMPLE = 16384
ROWS_PER_DIRECTION = 2
"""So many rows are drawn for each class and direction."""
WHOLE = 1024
"""Up to so many weights the Hessian is not divided into blocks."""
ROWS_PER_WEIGHT = 8
LARGEST_BYTES = 2**29
"""Of the blocks of all classes."""


class Curvature:
    """The Hessian as a sample of rows tells it.

    Parameters
    ----------
    blocks : FeatureBlocks
        Centred.
    rotation : Rotation
    weights : ndarray of shape (n_rows,)
        In the order of the blocks.
    several : bool
        Whether each output has a sigmoid of its own.
    intercept : bool
    """

    def __init__(
        self, blocks: FeatureBlocks, rotation: Rotation, weights: NDArray[np.float64], several: bool, intercept: bool
    ) -> None:
        import torch

        rank, self.several = len(rotation.variances), several
        step = max(1, len(blocks) // max(SAMPLE, 32 * rank))
        to: dict[str, Any] = {"dtype": torch.from_numpy(np.empty(0, blocks.dtype)).dtype, "device": blocks.device}
        turned = torch.tensor(rotation.vectors / rotation.block_scale[:, None], **to)
        count = -(-len(blocks) // step)
        self.rows = torch.full((count, rank + 1), float(intercept), **to)  # in pieces it would scatter the heap
        for rows, block in blocks:
            drawn = block[-rows.start % step :: step] @ turned
            first = -(-rows.start // step)
            self.rows[first : first + len(drawn), :-1] = drawn
        shares = weights[::step]
        self.shares = torch.tensor(shares / shares.sum(), **to)
        self._variances = torch.tensor(np.append(rotation.variances, 1.0)[:, None], **to)

    def by_directions(self, point: Tensor, penalty: Tensor) -> Inverse:
        """Return the inverse for directions that are independent.

        Parameters
        ----------
        point : Tensor of shape (rank + 1, n_outputs)
        penalty : Tensor of shape (rank + 1, 1)
        """
        diagonal = self._variances * self._curvatures(point).sum(0).clamp_min(1e-6) + penalty
        return lambda vectors: vectors / diagonal

    def by_classes(self, point: Tensor, penalty: Tensor) -> Inverse:
        """Return the inverse for classes that are independent: each has a block of the Hessian.

        Rows are drawn in proportion to their curvature, evenly along the data. Blocks that would be too large together
        are replaced by their diagonals. Where there are few weights, the whole Hessian is taken.

        Parameters
        ----------
        point : Tensor of shape (rank + 1, n_outputs)
        penalty : Tensor of shape (rank + 1, 1)
        """
        import torch

        size, n_outputs = point.shape
        if size**2 * n_outputs * point.element_size() > LARGEST_BYTES:
            return self.by_directions(point, penalty)
        if size * n_outputs <= WHOLE and not self.several:
            return self._by_all(point, penalty)
        curvatures = self._curvatures(point)
        inverses = torch.empty(n_outputs, size, size, dtype=point.dtype, device=point.device)
        for output, curvature in enumerate(curvatures.T):
            block = self._block(curvature, max(ROWS_PER_DIRECTION * size, len(self.rows) // n_outputs))
            block.diagonal().add_(penalty[:, 0] + 1e-5 * curvature.sum().clamp_min(1e-6) * self._variances[:, 0])
            inverses[output] = torch.cholesky_inverse(torch.linalg.cholesky(block))
        return lambda vectors: _times(inverses, vectors)

    def _by_all(self, point: Tensor, penalty: Tensor) -> Inverse:
        """Return the inverse of the sample's Hessian, in which classes are not independent."""
        import torch

        size, n_outputs = point.shape
        every = max(1, len(self.rows) // (ROWS_PER_WEIGHT * size * n_outputs))
        rows, shares = self.rows[::every], self.shares[::every, None]
        shares = shares * (self.shares.sum() / shares.sum())
        chances = (rows @ point).softmax(1)
        scaled = (chances[:, :, None] * rows[:, None]).flatten(1)  # (rows, n_outputs * size)
        weighted = scaled * shares
        hessian = -product(weighted.T, scaled)
        blocks = (weighted.T @ rows).view(n_outputs, size, size)
        spread = (shares * chances * (1 - chances)).sum(0).clamp_min(1e-6)
        for output, block in enumerate(blocks):
            part = slice(output * size, (output + 1) * size)
            block.diagonal().add_(penalty[:, 0] + 1e-5 * spread[output] * self._variances[:, 0])
            hessian[part, part] += block
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))

        def invert(vectors: Tensor) -> Tensor:
            by_output = vectors.transpose(-1, -2)  # (..., n_outputs, size)
            solved: Tensor = (by_output.flatten(-2) @ inverse).view(by_output.shape)
            return solved.transpose(-1, -2)

        return invert

    def _block(self, curvature: Tensor, count: int) -> Tensor:
        """Return a class's block from as many rows, each standing for the same part of the curvature."""
        import torch

        sums = curvature.double().cumsum(0)
        marks = (torch.arange(count, dtype=sums.dtype, device=sums.device) + 0.5) / count * sums[-1]
        drawn = self.rows[torch.searchsorted(sums, marks).clamp_max(len(sums) - 1)]
        return product(drawn.T, drawn) * (float(sums[-1]) / count)

    def _curvatures(self, point: Tensor) -> Tensor:
        """Return for each row of the sample and each output ``p (1 - p)``, times the row's share."""
        scores = self.rows @ point
        chances = scores.sigmoid() if self.several else scores.softmax(1)
        curvatures: Tensor = chances * (1 - chances) * self.shares[:, None]
        return curvatures


def _times(inverses: Tensor, vectors: Tensor) -> Tensor:
    """Multiply each output's column by its matrix, which is symmetric."""
    rows = vectors.reshape(-1, *vectors.shape[-2:]).permute(2, 0, 1).contiguous()
    return (rows @ inverses).permute(1, 2, 0).reshape(vectors.shape)
