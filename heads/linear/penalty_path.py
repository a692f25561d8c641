"""Logistic regression for many penalties and folds: from strong penalties to weak ones, all folds in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..folds import NO_FOLD
from ..parallel import find_memory_map
from .feature_blocks import FeatureBlocks, compute_eigenbasis
from .lbfgs import Evaluation, Solution, minimise, run_searches, to_float64
from .penalty_choice import is_race_over
from .sampled_hessian import InverseHessian, SampledHessian
from .stacked_loss import Objective, RowTargets, StackedLoss

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ITERATIONS_PER_ROUND = 8
"""After so many iterations the inverse Hessian is estimated again, and from then on with a block for each class."""
ITERATIONS_PER_ROUND_BY_CLASSES = 60
ROUGH_TOLERANCE = 5e-3
"""Tolerance of fits that are only compared with each other."""

FoldScoring = Callable[["Sequence[Solution]", "FoldJudgement"], "NDArray[np.float64]"]
"""Returns the score of each fold's held-out rows, the higher the better; NaN where there is none."""


@dataclass(frozen=True)
class FoldJudgement:
    """Mean losses and accuracies of held-out rows ``(n_folds,)``; NaN for a fold in which nothing could be learned."""

    losses: NDArray[np.float64]
    accuracies: NDArray[np.float64]


@dataclass(frozen=True)
class PenaltyFit:
    """The results for one penalty: the mean of the folds' solutions, and how each does on held-out rows."""

    mean_coefficients: NDArray[np.float64]  # (n_outputs, n_features), of features as they were given
    mean_intercepts: NDArray[np.float64]  # (n_outputs,)
    judgement: FoldJudgement
    scores: NDArray[np.float64]  # (n_folds,)
    n_iter: list[int]
    converged: bool


@dataclass(frozen=True)
class PenaltyPath:
    """The results for penalties from strong to weak, up to where a race was over."""

    fits: list[PenaltyFit]

    @classmethod
    def join(cls, paths: Sequence[PenaltyPath]) -> PenaltyPath:
        """Return the path of all folds from the paths of single folds."""
        return cls([join_folds(fits) for fits in zip(*(path.fits for path in paths), strict=True)])

    @property
    def losses(self) -> NDArray[np.float64]:
        """The mean losses of held-out rows ``(n_penalties, n_folds)``."""
        return np.array([fit.judgement.losses for fit in self.fits])

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """The accuracies of held-out rows ``(n_penalties, n_folds)``."""
        return np.array([fit.judgement.accuracies for fit in self.fits])

    @property
    def scores(self) -> NDArray[np.float64]:
        """The scores of held-out rows ``(n_penalties, n_folds)``."""
        return np.array([fit.scores for fit in self.fits])

    @property
    def n_iter(self) -> NDArray[np.intp]:
        """Number of evaluations of the objective ``(n_penalties, n_folds)``."""
        return np.array([fit.n_iter for fit in self.fits])

    @property
    def converged(self) -> bool:
        """Whether all searches ended at a minimum."""
        return all(fit.converged for fit in self.fits)

    @property
    def is_judged(self) -> NDArray[np.bool_]:
        """Which folds have held-out rows that something could be learned about."""
        has_scores = np.isfinite(self.scores).all(axis=0)
        return np.asarray(has_scores & np.isfinite(self.losses).all(axis=0))

    def is_race_over(self) -> bool:
        """Check whether weaker penalties than the last are hopeless."""
        is_judged = self.is_judged
        return is_race_over(self.scores[:, is_judged], self.losses[:, is_judged])

    def end_race(self) -> PenaltyPath:
        """Return the path up to where the race was over."""
        starts = (PenaltyPath(self.fits[:n_fits]) for n_fits in range(1, len(self.fits)))
        return next((start for start in starts if start.is_race_over()), self)


def join_folds(fits: Sequence[PenaltyFit]) -> PenaltyFit:
    """Return the results of several folds, each on its own, for one penalty."""
    judgement = FoldJudgement(
        losses=np.concatenate([fit.judgement.losses for fit in fits]),
        accuracies=np.concatenate([fit.judgement.accuracies for fit in fits]),
    )
    return PenaltyFit(
        mean_coefficients=np.mean([fit.mean_coefficients for fit in fits], axis=0),
        mean_intercepts=np.mean([fit.mean_intercepts for fit in fits], axis=0),
        judgement=judgement,
        scores=np.concatenate([fit.scores for fit in fits]),
        n_iter=[count for fit in fits for count in fit.n_iter],
        converged=all(fit.converged for fit in fits),
    )


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
        [solution] = self.solve_folds(C, [start], [NO_FOLD], tolerance=self.tolerance)
        return solution

    def choose_start(self, point: Tensor) -> Solution:
        """Return a start at a point, or at zero if the loss is lower there."""
        points = [point, self.loss.zeros()]
        unpenalised = [self.loss.make_objective(np.inf)] * 2
        evaluations = self.loss.evaluate(unpenalised, points, lambda vectors: vectors)
        values = [evaluation.value for evaluation in evaluations]
        return Solution(points[int(np.argmin(values))])

    def solve_folds(
        self, C: float, starts: Sequence[Solution], folds: Sequence[int], *, tolerance: float
    ) -> list[Solution]:
        """Return the solution for each fold.

        The inverse Hessian is estimated again in every round. From the second round on, exact solutions use a block of
        it for each class.
        """
        objectives = [self.loss.make_objective(C, fold) for fold in folds]
        solutions = [replace(start, converged=False, n_evaluations=0) for start in starts]
        active = list(range(len(objectives)))
        has_blocks = False
        while active and solutions[active[0]].n_evaluations < self.max_iter:
            inverse = self.invert_hessian(
                [solutions[k].point for k in active], objectives[0].penalty, by_classes=has_blocks
            )
            advanced = self.run_round(
                inverse,
                [objectives[k] for k in active],
                [solutions[k] for k in active],
                tolerance=tolerance,
                max_iter=ITERATIONS_PER_ROUND_BY_CLASSES if has_blocks else ITERATIONS_PER_ROUND,
            )
            for k, solution in zip(active, advanced, strict=True):
                solutions[k] = add_round(solutions[k], solution, tolerance)
            active = [k for k in active if not solutions[k].converged]
            has_blocks = tolerance < ROUGH_TOLERANCE
        return solutions

    def invert_hessian(self, points: Sequence[Tensor], penalty: Tensor, *, by_classes: bool) -> InverseHessian:
        """Return the approximate inverse Hessian at the mean of some points."""
        invert = self.hessian.invert_by_classes if by_classes else self.hessian.invert_by_directions
        return invert(average(points), penalty)

    def run_round(
        self,
        inverse: InverseHessian,
        objectives: Sequence[Objective],
        starts: Sequence[Solution],
        *,
        tolerance: float,
        max_iter: int,
    ) -> list[Solution]:
        """Let the searches of some objectives advance for some iterations."""
        searches = [
            minimise(start, objective.penalty, inverse, tolerance=tolerance, max_iter=max_iter)
            for objective, start in zip(objectives, starts, strict=True)
        ]

        def evaluate(numbers: list[int], points: list[Tensor]) -> list[Evaluation]:
            return self.loss.evaluate([objectives[number] for number in numbers], points, inverse)

        return run_searches(searches, evaluate)

    def cross_validate(
        self, Cs: Sequence[float], folds: Sequence[int], scoring: FoldScoring, *, race: bool
    ) -> PenaltyPath:
        """Fit penalties, ascending, on several folds at once, roughly. A race ends where the rest is hopeless.

        Each fold starts on the line through its last two solutions.
        """
        tolerance = max(self.tolerance, ROUGH_TOLERANCE)
        path = PenaltyPath([])
        starts = [Solution(self.loss.zeros())] * len(folds)
        last_points: list[Tensor] = []
        for C in Cs:
            solutions = self.solve_folds(C, starts, folds, tolerance=tolerance)
            path.fits.append(self.judge(folds, solutions, scoring))
            if race and path.is_race_over():
                break
            points = [solution.point for solution in solutions]
            starts = [
                replace(solution, point=extrapolate(before, solution.point))
                for before, solution in zip(last_points or points, solutions, strict=True)
            ]
            last_points = points
        return path

    def judge(self, folds: Sequence[int], solutions: Sequence[Solution], scoring: FoldScoring) -> PenaltyFit:
        """Judge the folds' solutions for one penalty by their held-out rows."""
        points = [solution.point for solution in solutions]
        judgement = FoldJudgement(*self.loss.judge_held_out(folds, points))
        coefficients, intercepts = self.to_coefficients(average(points))
        return PenaltyFit(
            mean_coefficients=coefficients,
            mean_intercepts=intercepts,
            judgement=judgement,
            scores=scoring(solutions, judgement),
            n_iter=[solution.n_evaluations for solution in solutions],
            converged=all(solution.converged for solution in solutions),
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
    if find_memory_map(X) is not None:
        return order, []
    order = order[np.argsort(rows.folds[order], kind="stable")]
    edges = np.flatnonzero(np.diff(rows.folds[order])) + 1
    return order, edges.tolist()


def add_round(before: Solution, after: Solution, tolerance: float) -> Solution:
    """Add up evaluations; a whole round without progress means that rounding allows none."""
    progress = before.value - after.value
    is_stalled = before.n_evaluations > 0 and progress <= tolerance * abs(after.value) / 2
    return replace(
        after,
        n_evaluations=before.n_evaluations + after.n_evaluations,
        converged=after.converged or is_stalled,
    )


def extrapolate(before: Tensor, last: Tensor) -> Tensor:
    """Return the next point on the line through two."""
    return last + (last - before)


def average(points: Sequence[Tensor]) -> Tensor:
    """Return the mean of points."""
    import torch

    return torch.stack(list(points)).mean(0)
