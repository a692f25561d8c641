"""The logistic loss of many fits at once: the features are read once, and multiplied by the weights of all fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..folds import NO_FOLD, are_in_shared_classes
from .lbfgs import Evaluation, dot, to_float64
from .matrix_product import multiply_matrices

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from .feature_blocks import Eigenbasis, FeatureBlocks
    from .sampled_hessian import InverseHessian

LOWEST_RELATIVE_SCORE = -60.0
"""Floor of scores, relative to the row's highest: less likely classes do not count, and tiny numbers are slow."""


@dataclass(frozen=True)
class RowTargets:
    """The target, weight and fold of each row.

    Parameters
    ----------
    targets : ndarray of shape (n_rows,), int64, or (n_rows, n_outputs), bool
        Codes of classes, or whether each label applies; of two classes, whether it is the second.
    n_outputs : int
        Number of classes, or of labels; 1 for two classes.
    weights : ndarray of float64, shape (n_rows,)
        At least 0.
    folds : ndarray of int, shape (n_rows,)
        The fold in which a row is held out; :data:`topwork.heads.folds.NO_FOLD` for none.
    """

    targets: NDArray[Any]
    n_outputs: int
    weights: NDArray[np.float64]
    folds: NDArray[np.integer[Any]]

    def take(self, rows: Any) -> RowTargets:
        """Return some rows.

        Parameters
        ----------
        rows : slice or ndarray of int
        """
        return RowTargets(
            targets=self.targets[rows],
            n_outputs=self.n_outputs,
            weights=self.weights[rows],
            folds=self.folds[rows],
        )

    @property
    def has_sigmoids(self) -> bool:
        """Whether each output has a sigmoid of its own, instead of a softmax of all."""
        return self.targets.ndim == 2

    @property
    def codes(self) -> NDArray[Any]:
        """The class of each row as a vector, where there are classes; the matrix of several labels as it is."""
        if self.targets.ndim == 2 and self.n_outputs == 1:
            return self.targets[:, 0].astype(np.int64)
        return self.targets

    def can_be_judged(self) -> NDArray[np.bool_]:
        """Check which rows have a class that other folds can learn; with several labels, all have."""
        if self.codes.ndim == 2:
            return np.ones(len(self.targets), dtype=bool)
        return are_in_shared_classes(self.codes, self.folds, self.weights)


@dataclass(frozen=True)
class Objective:
    """The penalised loss of one fit.

    Parameters
    ----------
    penalty : Tensor of shape (rank + 1, 1)
        What the penalty adds to the diagonal of the Hessian; zero for the intercept, which comes last.
    fold : int
        Whose rows are held out.
    """

    penalty: Tensor
    fold: int = NO_FOLD


class StackedLoss:
    """The loss of a softmax over classes, or of a sigmoid for each label, as in scikit-learn's logistic regression.

    Points are weights ``(rank + 1, n_outputs)`` in the eigenbasis, the intercept last. The loss of a fit is averaged
    with the weights of the rows that it does not hold out.

    Parameters
    ----------
    blocks : FeatureBlocks
        Centred.
    basis : Eigenbasis
    rows : RowTargets
        In the order of the blocks.
    has_intercept : bool
    """

    def __init__(self, blocks: FeatureBlocks, basis: Eigenbasis, rows: RowTargets, *, has_intercept: bool) -> None:
        import torch

        self.blocks = blocks
        self.rows = rows
        self.has_intercept = has_intercept
        self.n_outputs = rows.n_outputs
        self._options: dict[str, Any] = {"dtype": blocks.torch_dtype, "device": blocks.device}
        # (n_features, rank): from the eigenbasis to the blocks' features
        self._to_features = torch.tensor(basis.vectors / basis.block_scale[:, None], **self._options)
        self._variances = torch.tensor(np.append(basis.variances, 1.0)[:, None], **self._options)  # (rank + 1, 1)
        self._total_weights = _sum_training_weights(rows)

    def zeros(self) -> Tensor:
        """Return the point where every class is as likely as any other."""
        return self._variances.new_zeros(len(self._variances), self.n_outputs)

    def make_objective(self, C: float, fold: int = NO_FOLD) -> Objective:
        """Return the objective with scikit-learn's inverse strength of the penalty.

        Parameters
        ----------
        C : float
        fold : int
        """
        penalty = self._variances.new_full(self._variances.shape, 1 / (C * self._total_weights[fold]))
        penalty[-1] = 0
        return Objective(penalty, fold)

    def evaluate(
        self, objectives: Sequence[Objective], points: Sequence[Tensor], inverse: InverseHessian
    ) -> list[Evaluation]:
        """Return value and gradient of objectives, each at its point, in one pass over the features.

        Parameters
        ----------
        objectives : sequence of Objective
        points : sequence of Tensor
        inverse : callable
            The approximate inverse Hessian.
        """
        sums = self._sum_losses(objectives, points)
        gradients = self._average_slopes(objectives, sums)  # (n_fits, rank + 1, n_outputs)
        values = []
        for number, objective in enumerate(objectives):
            penalty_gradient = objective.penalty * points[number]
            gradients[number] += penalty_gradient
            mean_loss = float(sums.losses[number]) / float(self._total_weights[objective.fold])
            values.append(mean_loss + dot(penalty_gradient, points[number]) / 2)
        evaluations = zip(values, gradients, inverse(gradients), strict=True)
        return [Evaluation(value, gradient, preconditioned) for value, gradient, preconditioned in evaluations]

    def _sum_losses(self, objectives: Sequence[Objective], points: Sequence[Tensor]) -> LossSums:
        """Sum the losses of all fits, and their derivatives, over the rows that a fit does not hold out."""
        import torch

        weights, intercepts = self._join_points(points)
        sums = LossSums(weights, n_fits=len(objectives))
        for place, block in self.blocks:
            here = self.rows.take(place)
            targets = torch.from_numpy(here.targets).to(block.device)
            for first, last, row_weights in self._find_runs(objectives, here):
                part = slice(first * self.n_outputs, last * self.n_outputs)
                flat_scores = multiply_matrices(weights[part], block.T).add_(intercepts[part, None])
                scores = flat_scores.view(last - first, self.n_outputs, len(block))
                losses, residuals = compute_losses(scores, targets)
                sums.losses[first:last] += (losses * row_weights).sum(1, dtype=torch.float64)
                flat_residuals = residuals.mul_(row_weights[:, None]).flatten(0, 1)  # (n_fits * n_outputs, n_rows)
                sums.products[part] += multiply_matrices(flat_residuals, block)
                sums.residuals[part] += flat_residuals.sum(1)
        return sums

    def _average_slopes(self, objectives: Sequence[Objective], sums: LossSums) -> Tensor:
        """Return the gradients ``(n_fits, rank + 1, n_outputs)`` of the mean losses, in the eigenbasis."""
        import torch

        dtype = self._to_features.dtype
        products = sums.products.to(dtype)
        residuals = sums.residuals.to(dtype)
        slopes = torch.cat([self._to_features.T @ products.T, residuals[None]])  # (rank + 1, n_fits * n_outputs)
        slopes[-1] *= self.has_intercept
        slope_of_fit = torch.split(slopes, self.n_outputs, dim=1)  # n_fits of (rank + 1, n_outputs)
        means = []
        for slope, objective in zip(slope_of_fit, objectives, strict=True):
            means.append(slope / float(self._total_weights[objective.fold]))
        return torch.stack(means)

    def _join_points(self, points: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the weights of centred features ``(n_fits * n_outputs, n_features)``, and the intercepts."""
        import torch

        joined = torch.cat(list(points), dim=1).T  # (n_fits * n_outputs, rank + 1)
        return joined[:, :-1] @ self._to_features.T, joined[:, -1]

    def _find_runs(self, objectives: Sequence[Objective], here: RowTargets) -> list[tuple[int, int, Tensor]]:
        """Find runs of neighbouring fits that do not hold out all rows of a block.

        Returns the first and the last (exclusive) fit of each run, with the weights ``(n_fits_of_run, n_rows)`` of the
        rows, which are zero for rows that a fit holds out.
        """
        import torch

        folds = np.array([objective.fold for objective in objectives])[:, None]
        is_held_out = (here.folds == folds) & (folds != NO_FOLD)  # (n_fits, n_rows)
        weights = torch.tensor(np.where(is_held_out, 0.0, here.weights), **self._options)
        takes_part = np.concatenate([[False], ~is_held_out.all(axis=1), [False]])
        is_edge = takes_part[1:] != takes_part[:-1]
        runs = np.flatnonzero(is_edge).reshape(-1, 2)  # (n_runs, 2)
        return [(first, last, weights[first:last]) for first, last in runs.tolist()]

    def judge_held_out(self, points: Sequence[Tensor]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean loss and the accuracy of each fold's rows under the weights that were fitted without them.

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

        weights, intercepts = self._join_points(points)
        row_weights = self.rows.weights * self.rows.can_be_judged()
        sum_of_losses = np.zeros(len(points))
        sum_of_correct = np.zeros(len(points))
        sum_of_weights = np.zeros(len(points))
        for place, block in self.blocks:
            folds = self.rows.folds[place]
            for fold in np.unique(folds[folds != NO_FOLD]).tolist():
                # Score the rows that the fold holds out.
                inside = np.flatnonzero(folds == fold)
                part = slice(fold * self.n_outputs, (fold + 1) * self.n_outputs)
                held_out = block[torch.from_numpy(inside).to(block.device)]
                targets = torch.from_numpy(self.rows.targets[place][inside]).to(block.device)
                scores = torch.addmm(intercepts[part, None], weights[part], held_out.T)  # (n_outputs, n_held_out)

                # Sum; correct rows first, as the losses overwrite the scores.
                if self.rows.has_sigmoids:
                    is_correct = ((scores > 0) == targets.T).all(0)
                else:
                    is_correct = scores.argmax(0) == targets
                losses, _ = compute_losses(scores[None], targets)
                inside_weights = row_weights[place][inside]
                sum_of_losses[fold] += to_float64(losses[0]) @ inside_weights
                sum_of_correct[fold] += to_float64(is_correct) @ inside_weights
                sum_of_weights[fold] += inside_weights.sum()
        with np.errstate(invalid="ignore"):
            return sum_of_losses / sum_of_weights, sum_of_correct / sum_of_weights


class LossSums:
    """Sums over blocks, in float64.

    Parameters
    ----------
    weights : Tensor of shape (n_fits * n_outputs, n_features)
    n_fits : int

    Attributes
    ----------
    products : Tensor of shape (n_fits * n_outputs, n_features)
        Of residuals and features.
    residuals : Tensor of shape (n_fits * n_outputs,)
        Derivatives of the losses by the scores.
    losses : Tensor of shape (n_fits,)
    """

    def __init__(self, weights: Tensor, n_fits: int) -> None:
        import torch

        self.products = torch.zeros_like(weights, dtype=torch.float64)
        self.residuals = self.products.new_zeros(len(weights))
        self.losses = self.products.new_zeros(n_fits)


def _sum_training_weights(rows: RowTargets) -> NDArray[np.float64]:
    """Return the sum of the weights that each fold trains on; the last, found as ``[NO_FOLD]``, is that of all rows."""
    weight_of_fold = np.bincount(rows.folds + 1, rows.weights)  # NO_FOLD first
    total = weight_of_fold.sum()
    return np.append(total - weight_of_fold[1:], total)


def compute_losses(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return logistic losses and their derivatives by the scores, which are overwritten.

    Rows come last: sums over a few classes are then sums of long vectors.

    Parameters
    ----------
    scores : Tensor of shape (n_fits, n_outputs, n_rows)
    targets : Tensor of shape (n_rows,), int64, or (n_rows, n_outputs), bool
        Codes of classes, for a softmax; or whether each label applies, for sigmoids.

    Returns
    -------
    losses : Tensor of shape (n_fits, n_rows)
        Sums over outputs.
    residuals : Tensor of shape (n_fits, n_outputs, n_rows)
        Probabilities minus targets.
    """
    if targets.ndim == 2:
        return _compute_sigmoid_losses(scores, targets)
    return _compute_softmax_losses(scores, targets)


def _compute_sigmoid_losses(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    from torch.nn import functional

    applies = targets.T  # (n_outputs, n_rows)
    losses = functional.softplus(scores) - applies * scores
    probabilities = scores.clamp_min_(LOWEST_RELATIVE_SCORE).sigmoid()
    return losses.sum(1), probabilities - applies.to(probabilities.dtype)


def _compute_softmax_losses(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    own_class = targets.expand(len(scores), 1, -1)  # (n_fits, 1, n_rows)
    own_scores = scores.gather(1, own_class).squeeze(1)  # (n_fits, n_rows)

    # The softmax, in place.
    highest = scores.amax(1, keepdim=True)  # (n_fits, 1, n_rows)
    exponentials = scores.sub_(highest).clamp_min_(LOWEST_RELATIVE_SCORE).exp_()
    total = exponentials.sum(1, keepdim=True)  # (n_fits, 1, n_rows)
    losses = total.log().add_(highest).squeeze(1).sub_(own_scores)
    probabilities = exponentials.div_(total)

    # Subtract one from the probability of each row's class.
    minus_one = probabilities.new_full((1, 1, 1), -1.0).expand(own_class.shape)
    return losses, probabilities.scatter_add_(1, own_class, minus_one)
