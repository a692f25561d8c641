"""The logistic loss of many fits at once: the features are read once, and multiplied by all weights side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..folds import NO_FOLD, are_in_shared_classes
from .lbfgs import Evaluation
from .products import product

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from .curvature import Inverse
    from .feature_blocks import FeatureBlocks, Rotation

LOWEST = -60.0
"""Of scores below the highest: what is less likely counts as much, and products are not slowed by tiny numbers."""


@dataclass(frozen=True)
class Labelled:
    """What is known of each row but its features.

    Parameters
    ----------
    targets : ndarray of shape (n_rows,), int64, or (n_rows, n_outputs), bool
        Places of classes, or whether each label applies; of two classes, whether it is the second.
    n_outputs : int
        Of classes, or of labels.
    weights : ndarray of float64, shape (n_rows,)
        Positive.
    folds : ndarray of int, shape (n_rows,)
        In which fold a row is held out; :data:`NO_FOLD` for none.
    """

    targets: NDArray[Any]
    n_outputs: int
    weights: NDArray[np.float64]
    folds: NDArray[np.integer[Any]]

    def take(self, rows: Any) -> Labelled:
        """Return some rows.

        Parameters
        ----------
        rows : slice or ndarray of int
        """
        return Labelled(self.targets[rows], self.n_outputs, self.weights[rows], self.folds[rows])

    def learnable(self) -> NDArray[np.bool_]:
        """Tell of each row whether its class is found in more than one fold, by rows with a weight."""
        if self.targets.ndim == 2 and self.n_outputs > 1:
            return np.ones(len(self.targets), dtype=bool)
        codes = self.targets.reshape(len(self.targets)).astype(np.int64)
        return are_in_shared_classes(codes, self.folds, self.weights)


@dataclass(frozen=True)
class Fit:
    """One of the fits.

    Parameters
    ----------
    penalty : Tensor of shape (rank + 1, 1)
        What the penalty adds to the Hessian; nothing for the intercept, which comes last.
    fold : int
        Whose rows are held out.
    """

    penalty: Tensor
    fold: int = NO_FOLD


class StackedLoss:
    """The loss of a softmax over classes, or of a sigmoid for each label, as scikit-learn's logistic regression has it.

    Points are weights ``(rank + 1, n_outputs)`` in the directions of the rotation, the intercept last. The loss of a
    fit is averaged with the weights of the rows that it does not hold out.

    Parameters
    ----------
    blocks : FeatureBlocks
        Centred.
    rotation : Rotation
    rows : Labelled
        In the order of the blocks.
    intercept : bool
    """

    def __init__(self, blocks: FeatureBlocks, rotation: Rotation, rows: Labelled, intercept: bool) -> None:
        import torch

        self.blocks, self.rows, self.intercept, self.n_outputs = blocks, rows, intercept, rows.n_outputs
        self._to: dict[str, Any] = {"dtype": torch.from_numpy(np.empty(0, blocks.dtype)).dtype, "device": blocks.device}
        self.to_features = torch.tensor(rotation.vectors / rotation.block_scale[:, None], **self._to)
        self._variances = torch.tensor(np.append(rotation.variances, 1.0)[:, None], **self._to)
        held = np.bincount(rows.folds + 1, rows.weights)  # first those without a fold
        self._totals = np.append(held.sum() - held[1:], held.sum())  # found as [fold], and the last as [NO_FOLD]

    def zeros(self) -> Tensor:
        """Return the point where every class is as likely as any other."""
        return self._variances.new_zeros(len(self._variances), self.n_outputs)

    def fit(self, C: float, fold: int = NO_FOLD) -> Fit:
        """Return a fit with scikit-learn's inverse strength of the penalty.

        Parameters
        ----------
        C : float
        fold : int
        """
        penalty = self._variances.new_full(self._variances.shape, 1 / (C * self._totals[fold]))
        penalty[-1] = 0
        return Fit(penalty, fold)

    def evaluate(self, fits: Sequence[Fit], points: Sequence[Tensor], inverse: Inverse) -> list[Evaluation]:
        """Return the value and the gradient of the objectives of fits, each at its point.

        Parameters
        ----------
        fits : sequence of Fit
        points : sequence of Tensor
        inverse : callable
            Of the Hessian, roughly.
        """
        import torch

        layers, constants = self._side_by_side(points)
        sums = _Sums(layers, len(fits))
        for rows, block in self.blocks:
            here = self.rows.take(rows)
            for first, last, weights in self._taking_part(fits, here):
                part = slice(first * self.n_outputs, last * self.n_outputs)
                scores = product(layers[part], block.T).add_(constants[part, None])
                scores = scores.view(last - first, self.n_outputs, len(block))
                sums.add(first, last, block, *self._residuals(scores, here, weights))
        products, residuals = (each.to(layers.dtype) for each in (sums.products, sums.residuals))
        slopes = torch.cat([self.to_features.T @ products.T, residuals[None]])  # (rank + 1, n_fits * n_outputs)
        slopes[-1] *= self.intercept
        penalised = [fit.penalty * point for fit, point in zip(fits, points, strict=True)]
        totals = [float(self._totals[fit.fold]) for fit in fits]
        found = zip(torch.split(slopes, self.n_outputs, dim=1), totals, penalised, strict=True)
        gradients = torch.stack([slope / total + added for slope, total, added in found])
        squares = [float((added * point).double().sum()) for added, point in zip(penalised, points, strict=True)]
        values = [
            float(loss) / total + each / 2 for loss, total, each in zip(sums.losses, totals, squares, strict=True)
        ]
        return [Evaluation(*each) for each in zip(values, gradients, inverse(gradients), strict=True)]

    def _side_by_side(self, points: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the weights of centred features ``(n_fits * n_outputs, n_features)``, and the intercepts."""
        import torch

        joined = torch.cat(list(points), dim=1).T  # (n_fits * n_outputs, rank + 1)
        return joined[:, :-1] @ self.to_features.T, joined[:, -1]

    def _taking_part(self, fits: Sequence[Fit], here: Labelled) -> list[tuple[int, int, Tensor]]:
        """Return runs of neighbouring fits that do not hold out all of the rows, with the weights of the rows."""
        import torch

        held = here.folds == np.array([fit.fold if fit.fold != NO_FOLD else -2 for fit in fits])[:, None]
        able = np.concatenate([[False], ~held.all(axis=1), [False]])
        weights = torch.tensor(np.where(held, 0.0, here.weights), **self._to)  # (n_fits, n_rows)
        edges = np.flatnonzero(able[1:] != able[:-1]).reshape(-1, 2)
        return [(first, last, weights[first:last]) for first, last in edges.tolist()]

    def _residuals(self, scores: Tensor, here: Labelled, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return sums of weighted losses, and their derivatives by the scores."""
        import torch

        losses, residuals = _of_scores(scores, torch.from_numpy(here.targets).to(scores.device))
        return (losses * weights).sum(1, dtype=torch.float64), residuals.mul_(weights[:, None])

    def held_out(self, points: Sequence[Tensor]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean loss and the accuracy of each fold's rows under the weights that never saw them.

        Parameters
        ----------
        points : sequence of Tensor
            One for each fold.

        Returns
        -------
        losses, accuracies : ndarray of shape (n_folds,)
            Rows of a class that all lie in one fold are not counted: nothing could be learned about them. NaN where
            there are no others.
        """
        import torch

        layers, constants = self._side_by_side(points)
        judged = self.rows.weights * self.rows.learnable()
        found = np.zeros((3, len(points)))
        for rows, block in self.blocks:
            folds = self.rows.folds[rows]
            for fold in np.flatnonzero(np.bincount(folds + 1, minlength=len(points) + 1)[1:]).tolist():
                inside = np.flatnonzero(folds == fold)
                part = slice(fold * self.n_outputs, (fold + 1) * self.n_outputs)
                chosen = torch.from_numpy(inside).to(block.device)
                scores = torch.addmm(constants[part, None], layers[part], block[chosen].T)  # (n_outputs, rows)
                found[:, fold] += self._judged(scores, self.rows.targets[rows][inside], judged[rows][inside])
        with np.errstate(invalid="ignore"):
            return found[0] / found[2], found[1] / found[2]

    def _judged(self, scores: Tensor, targets: NDArray[Any], weights: NDArray[np.float64]) -> list[float]:
        import torch

        truth = torch.from_numpy(targets).to(scores.device)
        right = ((scores > 0) == truth.T).all(0) if truth.ndim == 2 else scores.argmax(0) == truth
        losses, _ = _of_scores(scores[None], truth)
        of_rows = [each.double().cpu().numpy() for each in (losses[0], right)]
        return [*(float(each @ weights) for each in of_rows), float(weights.sum())]


class _Sums:
    """What is summed over the blocks, in float64."""

    def __init__(self, layers: Tensor, n_fits: int) -> None:
        import torch

        self._n_outputs = len(layers) // n_fits
        self.products = torch.zeros_like(layers, dtype=torch.float64)
        self.residuals = self.products.new_zeros(len(layers))
        self.losses = self.products.new_zeros(n_fits)

    def add(self, first: int, last: int, block: Tensor, losses: Tensor, residuals: Tensor) -> None:
        part, flat = slice(first * self._n_outputs, last * self._n_outputs), residuals.flatten(0, 1)
        self.products[part] += product(flat, block)
        self.residuals[part] += flat.sum(1)
        self.losses[first:last] += losses


def _of_scores(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return losses ``(fits, rows)`` and their derivatives; the scores ``(fits, outputs, rows)`` are overwritten.

    Rows come last: sums over a few classes are then sums of long vectors.
    """
    if targets.ndim == 2:
        truth = targets.T
        losses, chances = _sigmoid(scores, truth)
        return losses, chances - truth.to(chances.dtype)
    losses, chances = _softmax(scores, targets)
    own = _own(targets, chances)
    return losses, chances.scatter_add_(1, own, chances.new_full((1, 1, 1), -1.0).expand(own.shape))


def _softmax(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    own = scores.gather(1, _own(targets, scores)).squeeze(1)
    highest = scores.amax(1, keepdim=True)
    chances = scores.sub_(highest).clamp_min_(LOWEST).exp_()
    total = chances.sum(1, keepdim=True)
    losses = total.log().add_(highest).squeeze(1).sub_(own)
    return losses, chances.div_(total)


def _sigmoid(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    from torch.nn import functional

    losses = functional.softplus(scores) - truth * scores
    return losses.sum(1), scores.clamp_min_(LOWEST).sigmoid()


def _own(targets: Tensor, scores: Tensor) -> Tensor:
    return targets.expand(len(scores), 1, -1)
