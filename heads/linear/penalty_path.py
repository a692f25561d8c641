"""Logistic regression for many penalties and folds: from strong penalties to weak ones, all folds in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..folds import NO_FOLD
from .feature_blocks import FeatureBlocks, compute_eigenbasis
from .lbfgs import Evaluation, Solution, minimise, run_searches, to_float64
from .sampled_hessian import InverseHessian, SampledHessian
from .stacked_loss import Objective, RowTargets, StackedLoss

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ITERATIONS_PER_ROUND = 8
"""After so many iterations the inverse Hessian is estimated again, and from then on with a block for each class."""
ITERATIONS_PER_ROUND_BY_CLASSES = 60


@dataclass(frozen=True)
class PenaltyPath:
    """The results of cross-validation over penalties, with the solution of all rows for each penalty.

    Losses and accuracies are those of the held-out rows; NaN for a fold in which nothing could be learned about them.
    """

    losses: NDArray[np.float64]  # (n_penalties, n_folds)
    accuracies: NDArray[np.float64]  # (n_penalties, n_folds)
    solutions: list[Solution]
    n_iter: NDArray[np.intp]  # evaluations of the objective, (n_penalties, n_folds)
    converged: bool

    @property
    def is_judged(self) -> NDArray[np.bool_]:
        """Which folds have held-out rows that something could be learned about."""
        return np.asarray(np.isfinite(self.losses).all(axis=0))


@dataclass(frozen=True)
class PenaltyFit:
    """The results for one penalty; the offsets ``(n_folds, rank + 1, n_outputs)`` lead from the whole to the folds."""

    whole: Solution
    offsets: Tensor
    losses: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    n_iter: list[int]
    converged: bool


class LogisticProblem:
    """Features and targets, ready to be fitted with any penalty; rows of weight zero are not read."""

    def __init__(
        self,
        X: NDArray[Any],
        rows: RowTargets,
        *,
        standardize: bool,
        has_intercept: bool,
        device: Any,
        tolerance: float,
        max_iter: int,
    ) -> None:
        self.tolerance = tolerance
        self.max_iter = max_iter
        self._inverts_by_classes = False

        order, edges = order_rows(X, rows)
        is_reordered = len(order) < len(X) or (np.diff(order) < 0).any()
        if is_reordered:  # else millions of rows would be copied in vain
            rows = rows.take(order)

        blocks = FeatureBlocks(X, order, device, edges)
        self.basis = compute_eigenbasis(blocks, rows.weights, standardize=standardize, centre=has_intercept)
        self.loss = StackedLoss(blocks, self.basis, rows, has_intercept=has_intercept)
        self.hessian = SampledHessian(
            blocks,
            self.basis,
            rows.weights,
            has_sigmoids=rows.has_sigmoids,
            has_intercept=has_intercept,
        )

    def solve(self, C: float, start: Solution) -> Solution:
        """Return the solution for all rows."""
        [solution], _ = self.solve_folds(C, [start], [NO_FOLD])
        return solution

    def choose_start(self, point: Tensor) -> Solution:
        """Return a start at a point, or at zero if the loss is lower there."""
        points = [point, self.loss.zeros()]
        unpenalised = [self.loss.make_objective(np.inf)] * 2
        evaluations = self.loss.evaluate(unpenalised, points, lambda vectors: vectors)
        values = [evaluation.value for evaluation in evaluations]
        return Solution(points[int(np.argmin(values))])

    def solve_folds(
        self, C: float, starts: Sequence[Solution], folds: Sequence[int], inverse: InverseHessian | None = None
    ) -> tuple[list[Solution], InverseHessian | None]:
        """Return the solution for each fold, and the last inverse Hessian; one may be given for the first round."""
        objectives = [self.loss.make_objective(C, fold) for fold in folds]
        solutions = [replace(start, converged=False, n_evaluations=0) for start in starts]
        active = list(range(len(objectives)))
        while active and solutions[active[0]].n_evaluations < self.max_iter:
            is_first_round = solutions[0].n_evaluations == 0
            if inverse is None or not is_first_round:
                inverse = self.invert_hessian([solutions[k].point for k in active], objectives[0].penalty)
            advanced = self.run_round(inverse, [objectives[k] for k in active], [solutions[k] for k in active])
            for k, solution in zip(active, advanced, strict=True):
                solutions[k] = add_round(solutions[k], solution, self.tolerance)
            active = [k for k in active if not solutions[k].converged]
            if active:
                self._inverts_by_classes = True
        return solutions, inverse

    def invert_hessian(self, points: Sequence[Tensor], penalty: Tensor) -> InverseHessian:
        """Return the approximate inverse Hessian at the mean of some points."""
        import torch

        invert = self.hessian.invert_by_directions
        if self._inverts_by_classes:
            invert = self.hessian.invert_by_classes
        return invert(torch.stack(list(points)).mean(0), penalty)

    def run_round(
        self, inverse: InverseHessian, objectives: Sequence[Objective], starts: Sequence[Solution]
    ) -> list[Solution]:
        """Let the searches of some objectives advance for some iterations."""
        max_iter = ITERATIONS_PER_ROUND_BY_CLASSES if self._inverts_by_classes else ITERATIONS_PER_ROUND
        searches = [
            minimise(start, objective.penalty, inverse, tolerance=self.tolerance, max_iter=max_iter)
            for objective, start in zip(objectives, starts, strict=True)
        ]

        def evaluate(numbers: list[int], points: list[Tensor]) -> list[Evaluation]:
            return self.loss.evaluate([objectives[number] for number in numbers], points, inverse)

        return run_searches(searches, evaluate)

    def cross_validate(self, Cs: Sequence[float], n_folds: int) -> PenaltyPath:
        """Fit all penalties, ascending; each starts from those before."""
        fits: list[PenaltyFit] = []
        for C in Cs:
            fits.append(self.fit_penalty(C, n_folds, before=fits[-2:]))
        return PenaltyPath(
            losses=np.array([fit.losses for fit in fits]),
            accuracies=np.array([fit.accuracies for fit in fits]),
            solutions=[fit.whole for fit in fits],
            n_iter=np.array([fit.n_iter for fit in fits]),
            converged=all(fit.converged for fit in fits),
        )

    def fit_penalty(self, C: float, n_folds: int, before: Sequence[PenaltyFit]) -> PenaltyFit:
        """Fit a penalty on all rows, and then on all folds at once, each time from the line through the last two fits.

        Folds start from the solution for all rows, moved by the extrapolated offsets of the folds' former solutions.
        """
        import torch

        # Fit all rows, with what is known about the curvature.
        start = Solution(self.loss.zeros())
        if before:
            start = replace(before[-1].whole, point=extrapolate([fit.whole.point for fit in before]))
        [whole], inverse = self.solve_folds(C, [start], [NO_FOLD])

        # Fit the folds.
        starts = [whole] * n_folds
        if before:
            offsets = extrapolate([fit.offsets for fit in before])
            starts = [replace(whole, point=whole.point + offset) for offset in offsets]
        solutions, _ = self.solve_folds(C, starts, range(n_folds), inverse)

        # Judge.
        points = [solution.point for solution in solutions]
        losses, accuracies = self.loss.judge_held_out(points)
        return PenaltyFit(
            whole=whole,
            offsets=torch.stack(points) - whole.point,
            losses=losses,
            accuracies=accuracies,
            n_iter=[solution.n_evaluations for solution in solutions],
            converged=all(solution.converged for solution in [whole, *solutions]),
        )

    def to_coefficients(self, point: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weights ``(n_outputs, n_features)`` and intercepts of features as they were given."""
        values = to_float64(point)
        weights = values[:-1]
        coefficients = (self.basis.vectors @ weights / self.basis.scale[:, None]).T
        intercepts = values[-1] - coefficients @ self.basis.mean
        return coefficients, intercepts

    def to_point(self, coefficients: NDArray[np.float64], intercepts: NDArray[np.float64]) -> Tensor:
        """Return the point with the weights ``(n_outputs, n_features)`` of features as they were given."""
        weights = self.basis.vectors.T @ (coefficients * self.basis.scale).T  # (rank, n_outputs)
        values = np.vstack([weights, intercepts + coefficients @ self.basis.mean])  # (rank + 1, n_outputs)
        return self.loss.zeros().new_tensor(values)


def order_rows(X: NDArray[Any], rows: RowTargets) -> tuple[NDArray[np.integer[Any]], list[int]]:
    """Return the numbers of the rows with a weight, ordered by fold, and the positions at which a fold ends.

    No fit needs the rows that it holds out; but a file is read from start to end.
    """
    order = np.flatnonzero(rows.weights > 0).astype(np.min_scalar_type(-len(X)))
    if is_mapped(X):
        return order, []
    order = order[np.argsort(rows.folds[order], kind="stable")]
    edges = np.flatnonzero(np.diff(rows.folds[order])) + 1
    return order, edges.tolist()


def is_mapped(X: Any) -> bool:
    """Check whether an array is a memory map of a file, or a view of one; rows that were taken out of one are not."""
    while isinstance(X, np.ndarray) and getattr(X, "_mmap", None) is None:
        X = X.base
    return isinstance(X, np.memmap)


def add_round(before: Solution, after: Solution, tolerance: float) -> Solution:
    """Add up evaluations; a whole round without progress means that rounding allows none."""
    progress = before.value - after.value
    is_stalled = before.n_evaluations > 0 and progress <= tolerance * abs(after.value) / 2
    return replace(
        after,
        n_evaluations=before.n_evaluations + after.n_evaluations,
        converged=after.converged or is_stalled,
    )


def extrapolate(points: Sequence[Tensor]) -> Tensor:
    """Return the next point on the line through the last two, or the only point."""
    return points[-1] + (points[-1] - points[0])
