"""Solving for many penalties and folds: from strong penalties to weak ones, all folds side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .curvature import Curvature, Inverse
from .feature_blocks import FeatureBlocks, Rotation, rotation_of
from .lbfgs import Evaluation, Minimum, drive, minimise
from .stacked_loss import NO_FOLD, Fit, Labelled, StackedLoss

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ROUND = 8
"""After so many iterations the curvature is estimated anew, and from then on for each class."""
ROUND_BY_CLASSES = 40
AHEAD = 0.7
"""How far a start goes on along the line through the solutions for the last two penalties."""


@dataclass(frozen=True)
class Path:
    """What cross-validation found.

    Parameters
    ----------
    losses, accuracies : ndarray of shape (n_penalties, n_folds)
        Of the rows that were held out.
    points : list of Tensor
        For each penalty, the mean of the folds' solutions.
    n_iter : ndarray of int, shape (n_penalties, n_folds)
        Evaluations of the objective.
    converged : bool
    """

    losses: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    points: list[Tensor]
    n_iter: NDArray[np.intp]
    converged: bool


class Problem:
    """Labelled features, ready to be fitted with any penalty.

    Parameters
    ----------
    X : ndarray or memmap of shape (n_rows, n_features)
    rows : Labelled
        Weights may be zero: those rows are not read.
    standardize, intercept : bool
    device : torch.device
    tolerance : float
    max_iter : int
    """

    def __init__(
        self,
        X: NDArray[Any],
        rows: Labelled,
        *,
        standardize: bool,
        intercept: bool,
        device: Any,
        tolerance: float,
        max_iter: int,
    ) -> None:
        order = np.flatnonzero(rows.weights > 0).astype(np.min_scalar_type(-len(X)))
        if not isinstance(X, np.memmap):  # a file is read from its start to its end
            order = order[np.argsort(rows.folds[order], kind="stable")]
        blocks = FeatureBlocks(X, order, device)
        if (rows.weights == 0).any() or (np.diff(order) < 0).any():  # millions of rows are not copied for nothing
            rows = rows.take(order)
        self.rotation: Rotation = rotation_of(blocks, rows.weights, standardize, intercept)
        self.loss = StackedLoss(blocks, self.rotation, rows, intercept)
        self.curvature = Curvature(blocks, self.rotation, rows.weights, rows.targets.ndim == 2, intercept)
        self.tolerance, self.max_iter = tolerance, max_iter
        self._by_classes = False

    def solve(self, C: float, starts: Sequence[Minimum], folds: Sequence[int] = (NO_FOLD,)) -> list[Minimum]:
        """Return the solution for each fold, or for all rows.

        Parameters
        ----------
        C : float
        starts : sequence of Minimum
        folds : sequence of int
        """
        fits = [self.loss.fit(C, fold) for fold in folds]
        found = [replace(start, converged=False, n_evaluations=0) for start in starts]
        going = list(range(len(fits)))
        while going and found[going[0]].n_evaluations < self.max_iter:
            inverse = self._inverse([found[k] for k in going], fits[0].penalty)
            for k, minimum in zip(
                going, self._round(inverse, [fits[k] for k in going], [found[k] for k in going]), strict=True
            ):
                found[k] = self._advanced(found[k], minimum)
            self._by_classes = self._by_classes or any(not found[k].converged for k in going)
            going = [k for k in going if not found[k].converged]
        return found

    def _advanced(self, before: Minimum, now: Minimum) -> Minimum:
        """Count evaluations; a whole round without progress means that rounding allows none."""
        stalled = before.n_evaluations > 0 and before.value - now.value <= self.tolerance * abs(now.value) / 2
        counted = before.n_evaluations + now.n_evaluations
        return replace(now, n_evaluations=counted, converged=now.converged or stalled)

    def _inverse(self, starts: Sequence[Minimum], penalty: Tensor) -> Inverse:
        invert = self.curvature.by_classes if self._by_classes else self.curvature.by_directions
        return invert(_mean([start.point for start in starts]), penalty)

    def _round(self, inverse: Inverse, fits: Sequence[Fit], starts: Sequence[Minimum]) -> list[Minimum]:
        """Let searches advance for some iterations."""

        def evaluate(numbers: list[int], points: list[Tensor]) -> list[Evaluation]:
            return self.loss.evaluate([fits[number] for number in numbers], points, inverse)

        limit = ROUND_BY_CLASSES if self._by_classes else ROUND
        pairs = zip(fits, starts, strict=True)
        return drive([minimise(start, fit.penalty, inverse, self.tolerance, limit) for fit, start in pairs], evaluate)

    def cross_validate(self, Cs: Sequence[float], n_folds: int) -> Path:
        """Fit all penalties, each on all folds at once, started from the one before.

        Parameters
        ----------
        Cs : sequence of float
            Ascending.
        n_folds : int
        """
        here, before = [Minimum(self.loss.zeros()) for _ in range(n_folds)], None
        points: list[Tensor] = []
        judged, counts, converged = [], [], True
        for C in Cs:
            starts = here if before is None else [_ahead(*pair) for pair in zip(here, before, strict=True)]
            found = self.solve(C, starts, range(n_folds))
            here, before = found, here if points else None
            judged.append(self.loss.held_out([each.point for each in found]))
            points.append(_mean([each.point for each in found]))
            counts.append([each.n_evaluations for each in found])
            converged = converged and all(each.converged for each in found)
        losses, accuracies = (np.array(each) for each in zip(*judged, strict=True))
        return Path(losses, accuracies, points, np.array(counts), converged)

    def coefficients(self, point: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weights ``(n_outputs, n_features)`` and intercepts of features as they were given.

        Parameters
        ----------
        point : Tensor
        """
        values, rotation = point.double().cpu().numpy(), self.rotation
        coefficients = (rotation.vectors @ values[:-1] / rotation.scale[:, None]).T
        return coefficients, values[-1] - coefficients @ rotation.mean

    def point(self, coefficients: NDArray[np.float64], intercepts: NDArray[np.float64]) -> Tensor:
        """Return the point of weights of features as they were given.

        Parameters
        ----------
        coefficients : ndarray of shape (n_outputs, n_features)
        intercepts : ndarray of shape (n_outputs,)
        """
        import torch

        rotation = self.rotation
        values = rotation.vectors.T @ (coefficients * rotation.scale).T
        start = self.loss.zeros()
        start += torch.tensor(np.vstack([values, intercepts + coefficients @ rotation.mean]), dtype=start.dtype)
        return start


def _mean(points: Sequence[Tensor]) -> Tensor:
    import torch

    return torch.stack(list(points)).mean(0)


def _ahead(here: Minimum, before: Minimum) -> Minimum:
    """Return a start a step further along the path; what was learned about the curvature is kept."""
    return Minimum(here.point + AHEAD * (here.point - before.point), here.value, here.penalty, here.steps, here.changes)
