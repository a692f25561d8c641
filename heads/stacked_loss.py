"""The logistic loss of many fits at once: the features are read once, and multiplied by all weights side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .lbfgs import Evaluation

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from .feature_blocks import FeatureBlocks, Rotation

NO_FOLD = -1


@dataclass(frozen=True)
class Fit:
    """One of the fits.

    Parameters
    ----------
    penalty : Tensor of shape (rank + 1, 1)
        What the penalty adds to the Hessian; none for the intercept, which comes last.
    fold : int
        Whose rows are held out.
    """

    penalty: Tensor
    fold: int = NO_FOLD


class StackedLoss:
    """Multinomial logistic loss, or binomial for two classes, as scikit-learn defines them.

    Points are weights ``(rank + 1, n_outputs)`` in the directions of the rotation, the intercept last; two classes
    have one output. The loss of a fit is averaged with the weights of the rows that are not held out.

    Parameters
    ----------
    blocks : FeatureBlocks
        Centred.
    rotation : Rotation
    classes : ndarray of int, shape (n_rows,)
        Numbers of the classes.
    n_classes : int
    weights : ndarray of float64, shape (n_rows,)
    folds : ndarray of int, shape (n_rows,)
    intercept : bool
    """

    def __init__(
        self,
        blocks: FeatureBlocks,
        rotation: Rotation,
        classes: NDArray[np.intp],
        n_classes: int,
        weights: NDArray[np.float64],
        folds: NDArray[np.intp],
        intercept: bool,
    ) -> None:
        import torch

        self.blocks, self.intercept = blocks, intercept
        self.n_outputs = 1 if n_classes == 2 else n_classes
        self.classes, self.weights, self.folds = classes, weights, folds
        self._to: dict[str, Any] = {"dtype": torch.from_numpy(np.empty(0, blocks.dtype)).dtype, "device": blocks.device}
        self._matrix = torch.tensor(rotation.matrix, **self._to)
        self._variances = torch.tensor(np.append(rotation.variances, 1.0)[:, None], **self._to)

    def zeros(self) -> Tensor:
        """Return the point where every class is as likely as any other."""
        return self._variances.new_zeros(len(self._variances), self.n_outputs)

    def penalty(self, C: float, fold: int = NO_FOLD) -> Tensor:
        """Return what an inverse strength means for the average loss over the rows of a fit."""
        penalty = self._variances.new_full(self._variances.shape, 1 / (C * self.total(fold)))
        penalty[-1] = 0
        return penalty

    def total(self, fold: int) -> float:
        """Return the sum of the weights of the rows that are not held out."""
        return float(self.weights[self.folds != fold].sum())

    def evaluate(self, fits: Sequence[Fit], points: Sequence[Tensor], diagonals: bool) -> list[Evaluation]:
        """Return value and gradient of the objectives of fits, each at its point."""
        import torch

        layers, constants = self._side_by_side(points)
        sums = _Sums(layers, len(fits), diagonals)
        for rows, block in self.blocks:
            for first, last, weights in self._taking_part(fits, rows):
                part = slice(first * self.n_outputs, last * self.n_outputs)
                scores = torch.addmm(constants[part], block, layers[:, part])
                scores = scores.view(len(block), last - first, self.n_outputs)
                sums.add(first, last, block, *self._residuals(scores, rows, weights, diagonals))
        return [self._evaluation(fit, point, sums, place) for place, (fit, point) in enumerate(zip(fits, points, strict=True))]

    def _side_by_side(self, points: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the weights of centred features ``(n_features, n_fits * n_outputs)``, and the intercepts."""
        import torch

        joined = torch.cat(list(points), dim=1)
        return self._matrix @ joined[:-1], joined[-1]

    def _taking_part(self, fits: Sequence[Fit], rows: Any) -> list[tuple[int, int, Tensor]]:
        """Return runs of neighbouring fits that do not hold out all of the rows, with the rows' weights."""
        import torch

        weights = np.stack([np.where(self.folds[rows] == fit.fold, 0.0, self.weights[rows]) for fit in fits], axis=1)
        able = np.concatenate([[False], weights.any(axis=0), [False]])
        edges = np.flatnonzero(able[1:] != able[:-1]).reshape(-1, 2)
        return [(a, b, torch.tensor(weights[:, a:b], **self._to)) for a, b in edges.tolist()]

    def _residuals(
        self, scores: Tensor, rows: Any, weights: Tensor, diagonals: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return weighted losses, their derivatives by the scores, and their curvatures."""
        import torch

        classes = torch.from_numpy(np.ascontiguousarray(self.classes[rows])).to(scores.device)
        losses, chances, truth = (_binomial if self.n_outputs == 1 else _multinomial)(scores, classes)
        curvatures = (chances * (1 - chances) * weights[..., None]).sum(0) if diagonals else None
        if truth is None:
            chances.scatter_add_(2, _spread(classes, chances), chances.new_full((len(chances), chances.shape[1], 1), -1.0))
        else:
            chances -= truth
        return (losses * weights).sum(0, dtype=torch.float64), chances.mul_(weights[..., None]), curvatures

    def _evaluation(self, fit: Fit, point: Tensor, sums: _Sums, place: int) -> Evaluation:
        import torch

        total, part = self.total(fit.fold), slice(place * self.n_outputs, (place + 1) * self.n_outputs)
        slope = (self._matrix.T.double() @ sums.products[:, part]) if len(self._matrix) else None
        gradient = torch.cat([slope, sums.residuals[None, part]]) / total
        gradient += fit.penalty.double() * point.double()
        value = float(sums.losses[place]) / total + 0.5 * float((fit.penalty * point.double() ** 2).sum())
        if not self.intercept:
            gradient[-1] = 0
        diagonal = None
        if sums.curvatures is not None:
            mean = (sums.curvatures[place] / total).clamp_min(1e-6)
            diagonal = self._variances * mean[None].to(self._variances.dtype) + fit.penalty
        return Evaluation(value, gradient.to(point.dtype), diagonal)

    def held_out(self, points: Sequence[Tensor]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean loss and the accuracy of each fold's rows under the weights that never saw them.

        Parameters
        ----------
        points : sequence of Tensor
            One for each fold.

        Returns
        -------
        losses, accuracies : ndarray of shape (n_folds,)
        """
        import torch

        layers, constants = self._side_by_side(points)
        found = np.zeros((2, len(points)))
        for rows, block in self.blocks:
            for fold in np.intersect1d(self.folds[rows], np.arange(len(points))).tolist():
                inside = np.flatnonzero(self.folds[rows] == fold)
                part = slice(fold * self.n_outputs, (fold + 1) * self.n_outputs)
                scores = torch.addmm(constants[part], block[torch.from_numpy(inside)], layers[:, part])
                found[:, fold] += self._judged(scores, self.classes[rows][inside], self.weights[rows][inside])
        totals = np.array([self.weights[self.folds == fold].sum() for fold in range(len(points))])
        return found[0] / totals, found[1] / totals

    def _judged(self, scores: Tensor, classes: NDArray[np.intp], weights: NDArray[np.float64]) -> list[float]:
        import torch

        truth = torch.from_numpy(classes).to(scores.device)
        losses, _, _ = (_binomial if self.n_outputs == 1 else _multinomial)(scores[:, None], truth)
        best = (scores[:, 0] > 0).long() if self.n_outputs == 1 else scores.argmax(1)
        right = (best == truth).double().cpu().numpy()
        return [float(losses[:, 0].double().cpu().numpy() @ weights), float(right @ weights)]


class _Sums:
    """What is summed over the blocks, in float64."""

    def __init__(self, layers: Tensor, n_fits: int, diagonals: bool) -> None:
        import torch

        n_outputs = layers.shape[1] // n_fits
        self.products = torch.zeros_like(layers, dtype=torch.float64)
        self.residuals = self.products.new_zeros(layers.shape[1])
        self.losses = self.products.new_zeros(n_fits)
        self.curvatures = self.products.new_zeros(n_fits, n_outputs) if diagonals else None
        self._n_outputs = n_outputs

    def add(
        self, first: int, last: int, block: Tensor, losses: Tensor, residuals: Tensor, curvatures: Tensor | None
    ) -> None:
        part, flat = slice(first * self._n_outputs, last * self._n_outputs), residuals.flatten(1)
        self.products[:, part] += block.T @ flat
        self.residuals[part] += flat.sum(0)
        self.losses[first:last] += losses
        if curvatures is not None and self.curvatures is not None:
            self.curvatures[first:last] += curvatures


def _multinomial(scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, None]:
    """Return losses ``(rows, fits)`` and probabilities; the scores are overwritten."""
    own = scores.gather(2, _spread(classes, scores)).squeeze(2)
    highest = scores.amax(2, keepdim=True)
    chances = scores.sub_(highest).exp_()
    total = chances.sum(2, keepdim=True)
    losses = total.log().add_(highest).squeeze(2).sub_(own)
    return losses, chances.div_(total), None


def _binomial(scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses ``(rows, fits)``, probabilities of the second class, and whether it is the row's."""
    from torch.nn import functional

    truth = classes.to(scores.dtype)[:, None, None]
    losses = functional.softplus(scores) - truth * scores
    return losses.squeeze(2), scores.sigmoid(), truth


def _spread(classes: Tensor, scores: Tensor) -> Tensor:
    return classes[:, None, None].expand(-1, scores.shape[1], 1)
