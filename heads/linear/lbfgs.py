"""L-BFGS as a coroutine: many problems advance together, and whoever drives them evaluates all in one pass."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from .curvature import Inverse

MEMORY = 20
"""Pairs of steps and changes of the gradient that are kept."""
ARMIJO = 1e-4
ROUNDING = 1e-9
"""Relative error of an objective, summed in float64 of losses in float32, below which an increase is none."""
SHORTEST, SHORTEST_AT_FIRST = 1e-3, 1e-8
"""Steps, as shares of what was wanted: shorter ones are for rounding, but for the first, whose length nobody knows."""
SAFETY = 20
"""So many times the quadratic model may underestimate how far the minimum is."""
NOTHING = 1e-8
"""An objective below this is as good as zero: where labels never apply, or always, there is no minimum."""
FAR = 5e-3
"""A search goes on while it wants to move the weights by more than this share of their length."""


class Evaluation(NamedTuple):
    """What an objective is at a point: its value, its gradient, and the inverse of the Hessian, roughly, times that."""

    value: float
    gradient: Tensor
    solved: Tensor


@dataclass
class Minimum:
    """A point and what was learned on the way to it, from which a neighbouring problem starts.

    Parameters
    ----------
    point : Tensor
    value : float
    penalty : Tensor or None
        Of the problem, broadcast to the point.
    steps, changes : list of Tensor
        Of the point and of the gradient, the latest last.
    n_evaluations : int
    converged : bool
    """

    point: Tensor
    value: float = np.inf
    penalty: Tensor | None = None
    steps: list[Tensor] = field(default_factory=list)
    changes: list[Tensor] = field(default_factory=list)
    n_evaluations: int = 0
    converged: bool = False


Search = Generator["Tensor", Evaluation, Minimum]


def minimise(start: Minimum, penalty: Tensor, inverse: Inverse, tolerance: float, max_iter: int) -> Search:
    """Minimise a smooth, convex objective; yields points and wants their evaluation.

    L-BFGS (Liu and Nocedal 1989) in its compact form (Byrd, Nocedal and Schnabel 1994). Pairs that were seen under
    another quadratic penalty are kept: what the penalty adds to them is known exactly.

    Parameters
    ----------
    start : Minimum
        Where to start, with the pairs of a neighbouring problem.
    penalty : Tensor
        Of this problem: the diagonal that its quadratic penalty adds to the Hessian.
    inverse : callable
        The inverse of the Hessian, roughly.
    tolerance : float
        The search ends when the objective is estimated to be above its minimum by no more than this share of it.
    max_iter : int

    Yields
    ------
    Tensor
        A point, whose :class:`Evaluation` is to be sent.
    """
    here = _moved(start, penalty)
    pairs = _Pairs(here, inverse)
    found = yield here.point
    here.value, here.n_evaluations = found.value, 1
    for _ in range(max_iter):
        last = found
        direction = -pairs.solve(last)
        slope = _dot(last.gradient, direction)
        near = _norm(direction) <= FAR * _norm(here.point)
        if near and -slope / 2 * SAFETY <= tolerance * max(abs(here.value), NOTHING):
            here.converged = True
            break
        length = 1.0
        found = yield here.point + direction
        here.n_evaluations += 1
        while not found.value <= here.value + ARMIJO * length * slope + ROUNDING * abs(here.value):
            length *= _shrunk(found.value - here.value, length * slope)
            if length < (SHORTEST if here.steps else SHORTEST_AT_FIRST):  # what the pairs tell is noise by now
                here.converged = not here.steps
                return replace(here, steps=[], changes=[])
            found = yield here.point + length * direction
            here.n_evaluations += 1
        here.point, here.value = here.point + length * direction, found.value
        step, change = length * direction, found.gradient - last.gradient
        if _remember(here, step, change):
            pairs.append(step, change, found.solved - last.solved)
    return here


def _moved(start: Minimum, penalty: Tensor) -> Minimum:
    """Return the start with the pairs that its path would have had under this penalty."""
    here = Minimum(start.point, penalty=penalty)
    more = 0.0 if start.penalty is None else penalty - start.penalty
    for step, change in zip(start.steps, start.changes, strict=True):
        _remember(here, step, change + more * step)
    return here


def _remember(here: Minimum, step: Tensor, change: Tensor) -> bool:
    """Keep a pair unless rounding made it say that the objective is not convex; tell whether it was kept."""
    convex: bool = _dot(step, change) > 1e-12 * _dot(change, change) ** 0.5 * _dot(step, step) ** 0.5
    if convex:
        here.steps, here.changes = [*here.steps, step][-MEMORY:], [*here.changes, change][-MEMORY:]
    return convex


def _shrunk(rise: float, slope: float) -> float:
    """Return the minimum of the parabola through what is known, within a tenth and a half."""
    return float(np.clip(-slope / (2 * (rise - slope)), 0.1, 0.5)) if np.isfinite(rise) else 0.1


class _Pairs:
    """The pairs side by side, with the inverse times each change, and their products with one another."""

    def __init__(self, here: Minimum, inverse: Inverse) -> None:
        import torch

        size = here.point.numel()
        self._steps, self._changes, self._scaled = (here.point.new_zeros(MEMORY, size) for _ in range(3))
        self._sy, self._yy = np.zeros((MEMORY, MEMORY)), np.zeros((MEMORY, MEMORY))
        self._order: list[int] = []  # places of the pairs, the oldest first
        if here.steps:
            for step, change, scaled in zip(here.steps, here.changes, inverse(torch.stack(here.changes)), strict=True):
                self.append(step, change, scaled)

    def append(self, step: Tensor, change: Tensor, scaled: Tensor) -> None:
        """Take a pair, with the inverse times its change, in place of the oldest if there are too many."""
        place = len(self._order) if len(self._order) < MEMORY else self._order.pop(0)
        self._order.append(place)
        for rows, row in ((self._steps, step), (self._changes, change), (self._scaled, scaled)):
            rows[place] = row.flatten()
        last = self._changes[place]
        self._sy[:, place], self._yy[:, place] = _numbers(self._steps @ last, self._scaled @ last)
        self._sy[place], self._yy[place] = _numbers(
            self._changes @ self._steps[place], self._changes @ self._scaled[place]
        )

    def solve(self, found: Evaluation) -> Tensor:
        """Return the approximate inverse of the Hessian, times a gradient."""
        import torch

        if not self._order:
            return found.solved
        order, flat = np.array(self._order), found.gradient.flatten()
        sy, yy = (each[np.ix_(order, order)] for each in (self._sy, self._yy))
        sg, yg = (each[order] for each in _numbers(self._steps @ flat, self._scaled @ flat))
        scale = sy[-1, -1] / yy[-1, -1]
        weights = np.zeros((2, MEMORY))
        weights[:, order] = _weights(sy, scale * yy, sg, scale * yg)
        of_steps, of_changes = torch.tensor(weights, dtype=flat.dtype, device=flat.device)
        added = of_steps @ self._steps - scale * of_changes @ self._scaled
        solved: Tensor = scale * found.solved + added.view(found.solved.shape)
        return solved


def _numbers(*tensors: Tensor) -> tuple[NDArray[Any], ...]:
    return tuple(each.double().cpu().numpy() for each in tensors)


def _weights(
    sy: NDArray[Any], yy: NDArray[Any], sg: NDArray[Any], yg: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the weights of steps and of scaled changes in the compact form."""
    from scipy.linalg import solve_triangular

    upper = np.triu(sy)
    of_changes = solve_triangular(upper, sg)
    inner = (np.diag(np.diag(sy)) + yy) @ of_changes - yg
    return solve_triangular(upper, inner, trans="T"), of_changes


def _dot(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum(dtype=one.double().dtype))


def _norm(point: Tensor) -> float:
    """Return the length of the weights, whose last row is the intercepts."""
    return float(point[:-1].norm())


def drive(searches: Sequence[Search], evaluate: Any) -> list[Minimum]:
    """Let searches advance together until all have ended.

    Parameters
    ----------
    searches : sequence of generators
        Of :func:`minimise`.
    evaluate : callable
        Takes the numbers of the searches that go on, and their points; returns their evaluations.

    Returns
    -------
    list of Minimum
        In the order of `searches`.
    """
    ended: dict[int, Minimum] = {}
    points = {number: next(search) for number, search in enumerate(searches)}
    while points:
        found, numbers = evaluate(list(points), list(points.values())), list(points)
        for number, evaluation in zip(numbers, found, strict=True):
            try:
                points[number] = searches[number].send(evaluation)
            except StopIteration as stop:
                ended[number] = stop.value
                del points[number]
    return [ended[number] for number in range(len(searches))]
