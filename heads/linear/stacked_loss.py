"""The logistic loss of many fits at once: the features are read once, and multiplied by the weights of all fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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

    `targets` are codes of classes ``(n_rows,)``, int64, or whether each label applies ``(n_rows, n_outputs)``; of two
    classes, which have one output, whether it is the second. `folds` are those in which the rows are held out, from 0;
    :data:`topwork.heads.folds.NO_FOLD` for none.
    """

    targets: NDArray[Any]
    n_outputs: int
    weights: NDArray[np.float64]
    folds: NDArray[np.integer[Any]]

    @classmethod
    def without_folds(cls, targets: NDArray[Any], *, n_outputs: int, weights: NDArray[np.float64]) -> RowTargets:
        """Return the targets of rows that are never held out."""
        folds = np.full(len(targets), NO_FOLD, np.int16)
        return cls(targets=targets, n_outputs=n_outputs, weights=weights, folds=folds)

    def with_folds(self, held_rows: Sequence[NDArray[np.integer[Any]]]) -> RowTargets:
        """Return the rows with folds that hold out the given rows; a fold that trains on one class is left out."""
        folds = np.full(len(self.weights), NO_FOLD, np.int16)
        n_folds = 0
        for held in held_rows:
            is_trained_on = self.weights > 0
            is_trained_on[held] = False
            has_classes = self.codes.ndim == 1
            if has_classes and len(np.unique(self.codes[is_trained_on])) < 2:
                continue
            folds[held] = n_folds
            n_folds += 1
        return replace(self, folds=folds)

    def take(self, rows: Any) -> RowTargets:
        """Return some rows, given as a slice or by their numbers."""
        return replace(self, targets=self.targets[rows], weights=self.weights[rows], folds=self.folds[rows])

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.folds.max()) + 1

    @property
    def has_sigmoids(self) -> bool:
        """Whether each output has a sigmoid of its own, instead of a softmax of all."""
        return self.targets.ndim == 2

    @property
    def codes(self) -> NDArray[Any]:
        """The class of each row as a vector, where there are classes; the matrix of several labels as it is."""
        if self.has_sigmoids and self.n_outputs == 1:
            return self.targets[:, 0].astype(np.int64)
        return self.targets

    def can_be_judged(self) -> NDArray[np.bool_]:
        """Check which rows have a class that other folds can learn; with several labels, all have."""
        if self.codes.ndim == 2:
            return np.ones(len(self.targets), dtype=bool)
        return are_in_shared_classes(self.codes, self.folds, self.weights)


@dataclass(frozen=True)
class Objective:
    """The penalised loss of one fit, which holds out the rows of a fold.

    `penalty` is what the penalty adds to the diagonal of the Hessian; zero for the intercept, which comes last.
    """

    penalty: Tensor  # (rank + 1, 1)
    fold: int = NO_FOLD


class StackedLoss:
    """The loss of a softmax over classes, or of a sigmoid for each label, as in scikit-learn's logistic regression.

    Points are weights ``(rank + 1, n_outputs)`` in the eigenbasis, the intercept last. The loss of a fit is averaged
    with the weights of the rows that it does not hold out. The blocks are centred, and the rows in their order.
    """

    def __init__(self, blocks: FeatureBlocks, basis: Eigenbasis, rows: RowTargets, *, has_intercept: bool) -> None:
        self.blocks = blocks
        self.rows = rows
        self.has_intercept = has_intercept
        self.n_outputs = rows.n_outputs
        self._to_features = blocks.to_tensor(basis.block_vectors)  # (n_features, rank)
        self._total_weights = sum_training_weights(rows)

    def zeros(self) -> Tensor:
        """Return the point where every class is as likely as any other."""
        return self._to_features.new_zeros(self._to_features.shape[1] + 1, self.n_outputs)

    def make_objective(self, C: float, fold: int = NO_FOLD) -> Objective:
        """Return the objective with scikit-learn's inverse strength of the penalty."""
        strength = 1 / (C * self._total_weights[fold])
        penalty = self._to_features.new_full((self._to_features.shape[1] + 1, 1), strength)
        penalty[-1] = 0
        return Objective(penalty, fold)

    def evaluate(
        self, objectives: Sequence[Objective], points: Sequence[Tensor], inverse: InverseHessian
    ) -> list[Evaluation]:
        """Return value and gradient of objectives, each at its point, in one pass over the features."""
        import torch

        sums = self.sum_losses(objectives, points)
        values = []
        gradients = []
        slopes = self.split_slopes(sums)
        for objective, point, loss, slope in zip(objectives, points, sums.losses.tolist(), slopes, strict=True):
            total_weight = float(self._total_weights[objective.fold])
            penalty_gradient = objective.penalty * point
            gradients.append((slope / total_weight).add_(penalty_gradient))
            values.append(loss / total_weight + dot(penalty_gradient, point) / 2)
        stacked = torch.stack(gradients)  # (n_fits, rank + 1, n_outputs)
        return list(map(Evaluation, values, stacked, inverse(stacked)))

    def sum_losses(self, objectives: Sequence[Objective], points: Sequence[Tensor]) -> LossSums:
        """Sum the losses of all fits, and their derivatives, over the rows that a fit does not hold out."""
        import torch

        weights, intercepts = self._join_points(points)
        sums = LossSums(weights, n_fits=len(objectives))
        for place, block in self.blocks:
            rows = self.rows.take(place)
            targets = torch.from_numpy(rows.targets).to(block.device)
            for fits, row_weights in self.find_runs(objectives, rows):
                outputs = slice(fits.start * self.n_outputs, fits.stop * self.n_outputs)
                scores = multiply_matrices(weights[outputs], block.T).add_(intercepts[outputs, None])
                losses, residuals = compute_losses(scores.view(-1, self.n_outputs, len(block)), targets)
                sums.losses[fits] += (losses * row_weights).sum(1, dtype=torch.float64)
                flat_residuals = residuals.mul_(row_weights[:, None]).flatten(0, 1)  # (n_fits * n_outputs, n_rows)
                sums.products[outputs] += multiply_matrices(flat_residuals, block)
                sums.residuals[outputs] += flat_residuals.sum(1)
        return sums

    def split_slopes(self, sums: LossSums) -> Sequence[Tensor]:
        """Return the gradient ``(rank + 1, n_outputs)`` of each fit's summed loss, in the eigenbasis."""
        import torch

        dtype = self._to_features.dtype
        products = sums.products.to(dtype)
        residuals = sums.residuals.to(dtype)
        slopes = torch.cat([self._to_features.T @ products.T, residuals[None]])  # (rank + 1, n_fits * n_outputs)
        slopes[-1] *= self.has_intercept
        return torch.split(slopes, self.n_outputs, dim=1)

    def _join_points(self, points: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the weights of centred features ``(n_fits * n_outputs, n_features)``, and the intercepts."""
        import torch

        joined = torch.cat(list(points), dim=1).T  # (n_fits * n_outputs, rank + 1)
        return joined[:, :-1] @ self._to_features.T, joined[:, -1]

    def find_runs(self, objectives: Sequence[Objective], rows: RowTargets) -> list[tuple[slice, Tensor]]:
        """Find runs of neighbouring fits that do not hold out all rows of a block.

        Returned with each run are the weights ``(n_fits_of_run, n_rows)``, zero for rows that a fit holds out.
        """
        folds = np.array([objective.fold for objective in objectives])[:, None]
        is_held_out = (rows.folds == folds) & (folds != NO_FOLD)  # (n_fits, n_rows)
        weights = self.blocks.to_tensor(np.where(is_held_out, 0.0, rows.weights))
        takes_part = ~is_held_out.all(axis=1)
        edges = np.flatnonzero(np.diff(takes_part, prepend=False, append=False))
        runs = [slice(first, last) for first, last in edges.reshape(-1, 2).tolist()]
        return [(run, weights[run]) for run in runs]

    def judge_held_out(
        self, folds: Sequence[int], points: Sequence[Tensor]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean loss and the accuracy of each fold's rows under the point that was fitted without them.

        Rows of a class that all lie in one fold are not counted: nothing could be learned about them. NaN where there
        are no others.
        """
        import torch

        weights, intercepts = self._join_points(points)
        judged = replace(self.rows, weights=self.rows.weights * self.rows.can_be_judged())
        sums = np.zeros((3, len(points)))  # of losses, of correct rows and of all rows, by their weights
        for place, block in self.blocks:
            fold_of_row = judged.folds[place]
            for number, fold in enumerate(folds):
                inside = np.flatnonzero(fold_of_row == fold)
                if not len(inside):
                    continue
                rows = judged.take(place).take(inside)
                targets = torch.from_numpy(rows.targets).to(block.device)
                held_out = block[torch.from_numpy(inside).to(block.device)]
                outputs = slice(number * self.n_outputs, (number + 1) * self.n_outputs)
                scores = torch.addmm(intercepts[outputs, None], weights[outputs], held_out.T)  # (n_outputs, n_held_out)
                sums[:, number] += sum_judgements(scores, targets, rows.weights)
        with np.errstate(invalid="ignore"):
            mean_losses, accuracies = sums[:2] / sums[2]
        return mean_losses, accuracies


class LossSums:
    """Sums over blocks, in float64: of losses, of their derivatives by the scores (residuals), of those by weights."""

    def __init__(self, weights: Tensor, n_fits: int) -> None:
        import torch

        self.products = torch.zeros_like(weights, dtype=torch.float64)  # (n_fits * n_outputs, n_features)
        self.residuals = self.products.new_zeros(len(weights))  # (n_fits * n_outputs,)
        self.losses = self.products.new_zeros(n_fits)


def sum_judgements(scores: Tensor, targets: Tensor, weights: NDArray[np.float64]) -> list[float]:
    """Return the weighted sum of losses, and the weight of correct rows and of all; overwrites the scores.

    The scores are ``(n_outputs, n_rows)``, the targets as for :func:`compute_losses`.
    """
    if targets.ndim == 2:
        is_correct = ((scores > 0) == targets.T).all(0)
    else:
        is_correct = scores.argmax(0) == targets
    losses, _ = compute_losses(scores[None], targets)
    return [to_float64(losses[0]) @ weights, to_float64(is_correct) @ weights, weights.sum()]


def sum_training_weights(rows: RowTargets) -> NDArray[np.float64]:
    """Return the sum of the weights that each fold trains on; the last, found as ``[NO_FOLD]``, is that of all rows."""
    weight_of_fold = np.bincount(rows.folds + 1, rows.weights)  # NO_FOLD first
    total = weight_of_fold.sum()
    return np.append(total - weight_of_fold[1:], total)


def compute_losses(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return logistic losses ``(n_fits, n_rows)`` and their derivatives by the scores, which are overwritten.

    The scores are ``(n_fits, n_outputs, n_rows)``: sums over a few classes are then sums of long vectors. The targets
    are codes of classes ``(n_rows,)``, for a softmax, or whether labels apply ``(n_rows, n_outputs)``, for sigmoids.
    """
    if targets.ndim == 2:
        return compute_sigmoid_losses(scores, targets)
    return compute_softmax_losses(scores, targets)


def compute_sigmoid_losses(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return losses, summed over labels, and probabilities minus targets."""
    from torch.nn import functional

    applies = targets.T  # (n_outputs, n_rows)
    losses = functional.softplus(scores) - applies * scores
    probabilities = scores.clamp_min_(LOWEST_RELATIVE_SCORE).sigmoid()
    return losses.sum(1), probabilities - applies.to(probabilities.dtype)


def compute_softmax_losses(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return losses, and probabilities minus one-hot targets."""
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
