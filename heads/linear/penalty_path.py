"""Solving for many penalties and folds: from strong penalties to weak ones, all folds side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..folds import NO_FOLD
from .curvature import Curvature, Inverse
from .feature_blocks import FeatureBlocks, Rotation, rotation_of
from .lbfgs import Evaluation, Minimum, drive, minimise
from .stacked_loss import Fit, Labelled, StackedLoss

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ROUND = 8
"""After so many iterations the curvature is estimated anew, and from then on for each class."""
ROUND_BY_CLASSES = 60


@dataclass(frozen=True)
class Path:
    """What cross-validation found.

    Parameters
    ----------
    losses, accuracies : ndarray of shape (n_penalties, n_folds)
        Of the rows that were held out; NaN for a fold in which nothing could be learned about them.
    wholes : list of Minimum
        For each penalty, the solution for all rows.
    n_iter : ndarray of int, shape (n_penalties, n_folds)
        Evaluations of the objective.
    converged : bool
    """

    losses: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    wholes: list[Minimum]
    n_iter: NDArray[np.intp]
    converged: bool

    @property
    def telling(self) -> NDArray[np.bool_]:
        """Which folds have rows that something could be learned about."""
        return np.asarray(np.isfinite(self.losses).all(axis=0))


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
        edges = []
        if not _is_mapped(X):  # a file is read from its start to its end
            order = order[np.argsort(rows.folds[order], kind="stable")]
            edges = (np.flatnonzero(np.diff(rows.folds[order])) + 1).tolist()  # no fit needs the rows it holds out
        blocks = FeatureBlocks(X, order, device, edges)
        if (rows.weights == 0).any() or (np.diff(order) < 0).any():  # millions of rows are not copied for nothing
            rows = rows.take(order)
        self.rotation: Rotation = rotation_of(blocks, rows.weights, standardize, intercept)
        self.loss = StackedLoss(blocks, self.rotation, rows, intercept)
        self.curvature = Curvature(blocks, self.rotation, rows.weights, rows.targets.ndim == 2, intercept)
        self.tolerance, self.max_iter = tolerance, max_iter
        self._by_classes = False

    def solve(self, C: float, start: Minimum) -> Minimum:
        """Return the solution for all rows.

        Parameters
        ----------
        C : float
        start : Minimum
        """
        return self._solve(C, [start], [NO_FOLD])[0][0]

    def better_start(self, point: Tensor) -> Minimum:
        """Return a start at a point, or at zero if the loss is lower there.

        Parameters
        ----------
        point : Tensor
        """
        starts = [point, self.loss.zeros()]
        found = self.loss.evaluate([self.loss.fit(np.inf)] * 2, starts, lambda vectors: vectors)
        return Minimum(starts[int(np.argmin([each.value for each in found]))])

    def _solve(
        self, C: float, starts: Sequence[Minimum], folds: Sequence[int], inverse: Inverse | None = None
    ) -> tuple[list[Minimum], Inverse | None]:
        """Return the solution for each fold, and the last inverse of the Hessian; one may be given to begin with."""
        fits = [self.loss.fit(C, fold) for fold in folds]
        found = [replace(start, converged=False, n_evaluations=0) for start in starts]
        going = list(range(len(fits)))
        while going and found[going[0]].n_evaluations < self.max_iter:
            if inverse is None or len(going) < len(fits) or found[0].n_evaluations > 0:
                inverse = self._inverse([found[k] for k in going], fits[0].penalty)
            ended = self._round(inverse, [fits[k] for k in going], [found[k] for k in going])
            for k, minimum in zip(going, ended, strict=True):
                found[k] = self._advanced(found[k], minimum)
            going = [k for k in going if not found[k].converged]
            self._by_classes = self._by_classes or bool(going)
        return found, inverse

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
        """Fit all penalties on all rows, started from the one before, and each on all folds at once.

        Folds start from the solution for all rows, moved by as much as the folds' solutions lay off it before.

        Parameters
        ----------
        Cs : sequence of float
            Ascending.
        n_folds : int
        """
        wholes: list[Minimum] = []
        offsets: list[list[Tensor]] = []  # of the folds' solutions, for each penalty
        judged, counts, converged = [], [], True
        for C in Cs:
            [whole], inverse = self._solve(C, [self._start(wholes)], [NO_FOLD])
            moved = [whole.point + _ahead(each) for each in zip(*offsets[-2:], strict=True)] or [whole.point] * n_folds
            found, _ = self._solve(C, [replace(whole, point=point) for point in moved], range(n_folds), inverse)
            wholes.append(whole)
            offsets.append([each.point - whole.point for each in found])
            judged.append(self.loss.held_out([each.point for each in found]))
            counts.append([each.n_evaluations for each in found])
            converged = converged and all(each.converged for each in [whole, *found])
        losses, accuracies = (np.array(each) for each in zip(*judged, strict=True))
        return Path(losses, accuracies, wholes, np.array(counts), converged)

    def _start(self, before: Sequence[Minimum]) -> Minimum:
        """Return where the path goes on; what was learned about the curvature is kept."""
        if not before:
            return Minimum(self.loss.zeros())
        return replace(before[-1], point=_ahead([each.point for each in before[-2:]]))

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


def _is_mapped(X: Any) -> bool:
    """Tell whether an array is a file's memory map, or a view of one."""
    while isinstance(X, np.ndarray) and getattr(X, "_mmap", None) is None:  # rows taken out of a map are none
        X = X.base
    return isinstance(X, np.memmap)


def _mean(points: Sequence[Tensor]) -> Tensor:
    import torch

    return torch.stack(list(points)).mean(0)


def _ahead(last: Sequence[Tensor]) -> Tensor:
    """Return where a path goes on from its last two points, or its only one."""
    return last[-1] + (last[-1] - last[0])
