"""L-BFGS as a coroutine: many searches advance together, and all of their points are evaluated in one pass."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from .sampled_hessian import InverseHessian

MAX_PAIRS = 20
"""Number of steps, with the changes of the gradient, that are kept."""
SUFFICIENT_DECREASE = 1e-4
"""Armijo's constant: the share of the decrease that the slope promises which a step has to reach."""
RELATIVE_ROUNDING = 1e-9
"""Relative error of an objective, summed in float64 of losses in float32; a smaller increase counts as none."""
SHORTEST_STEP = 1e-3
"""Share of the wanted step below which rounding decides, and the pairs are given up."""
SHORTEST_FIRST_STEP = 1e-8
"""The same for a search without pairs, whose first step may be of any length."""
MAX_UNDERESTIMATE = 20
"""Factor by which the quadratic model may underestimate the distance to the minimum of the objective."""
OBJECTIVE_FLOOR = 1e-8
"""An objective below this is as good as zero: where labels never or always apply, there is no minimum."""
MAX_RELATIVE_STEP_AT_END = 5e-3
"""A search continues while its next step is longer than this share of the length of the weights."""
MIN_RELATIVE_CURVATURE = 1e-12
"""Cosine of a step and the change of the gradient below which a pair is rounding."""


class Evaluation(NamedTuple):
    """An objective at a point: its value, its gradient, and the approximate inverse Hessian times the gradient."""

    value: float
    gradient: Tensor
    preconditioned: Tensor


@dataclass
class Solution:
    """A point and the curvature pairs that were found on the way to it, from which a similar search can start.

    Parameters
    ----------
    point : Tensor
    value : float
        The objective at the point.
    penalty : Tensor or None
        The diagonal of the quadratic penalty's Hessian under which the pairs were found, broadcast to the point.
    steps, changes : list of Tensor
        Differences of points and of gradients, the latest last.
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

    def add_pair(self, step: Tensor, change: Tensor) -> bool:
        """Add a pair, and drop the oldest of too many.

        Parameters
        ----------
        step, change : Tensor
            The difference of two points, and of their gradients.

        Returns
        -------
        bool
            False for a pair that was not added: by it the objective, which is convex, would not be; that is rounding.
        """
        floor = MIN_RELATIVE_CURVATURE * dot(change, change) ** 0.5 * dot(step, step) ** 0.5
        is_convex = dot(step, change) > floor
        if not is_convex:
            return False
        self.steps = [*self.steps, step][-MAX_PAIRS:]
        self.changes = [*self.changes, change][-MAX_PAIRS:]
        return True

    def with_penalty(self, penalty: Tensor) -> Solution:
        """Return a solution to start from, with the pairs that the same steps would have under another penalty.

        Parameters
        ----------
        penalty : Tensor
            The diagonal of its Hessian, broadcast to the point.
        """
        moved = Solution(self.point, penalty=penalty)
        difference: Tensor | float = 0.0
        if self.penalty is not None:
            difference = penalty - self.penalty
        for step, change in zip(self.steps, self.changes, strict=True):
            moved.add_pair(step, change + difference * step)
        return moved


Search = Generator["Tensor", Evaluation, Solution]


def minimise(start: Solution, penalty: Tensor, inverse: InverseHessian, *, tolerance: float, max_iter: int) -> Search:
    """Minimise a smooth, convex objective; a coroutine that yields points and expects their evaluations.

    L-BFGS (Liu and Nocedal 1989) in its compact form (Byrd, Nocedal and Schnabel 1994), with an approximate inverse
    Hessian in place of a scaled identity, and backtracking to Armijo's condition. Pairs that were found under another
    quadratic penalty are kept: what the penalty adds to them is known exactly.

    Parameters
    ----------
    start : Solution
        Where to start, with the pairs of a similar search.
    penalty : Tensor
        The diagonal that the quadratic penalty of this objective adds to the Hessian.
    inverse : callable
        The approximate inverse Hessian.
    tolerance : float
        The search ends when the objective is estimated to be above its minimum by no more than this share of it.
    max_iter : int

    Yields
    ------
    Tensor
        A point, whose :class:`Evaluation` is to be sent.
    """
    here = start.with_penalty(penalty)
    pairs = CurvaturePairs(here, inverse)
    found = yield here.point
    here.value = found.value
    here.n_evaluations = 1
    for _ in range(max_iter):
        last = found

        # Choose a direction, and end where it promises too little.
        direction = -pairs.precondition(last)
        slope = dot(last.gradient, direction)
        is_short = _length_of_weights(direction) <= MAX_RELATIVE_STEP_AT_END * _length_of_weights(here.point)
        estimated_excess = -slope / 2 * MAX_UNDERESTIMATE
        if is_short and estimated_excess <= tolerance * max(abs(here.value), OBJECTIVE_FLOOR):
            here.converged = True
            break

        # Shorten the step until the objective decreases enough.
        length = 1.0
        found = yield here.point + direction
        here.n_evaluations += 1
        while not _is_sufficient(found.value, before=here.value, promised=length * slope):
            length *= _choose_shortening(rise=found.value - here.value, promised=length * slope)
            shortest = SHORTEST_STEP if here.steps else SHORTEST_FIRST_STEP
            if length < shortest:  # by now rounding decides: start again without pairs, or end if there were none
                here.converged = not here.steps
                return replace(here, steps=[], changes=[])
            found = yield here.point + length * direction
            here.n_evaluations += 1

        # Take the step, and remember what it says about the curvature.
        step = length * direction
        here.point = here.point + step
        here.value = found.value
        change = found.gradient - last.gradient
        if here.add_pair(step, change):
            pairs.append(step, change, preconditioned_change=found.preconditioned - last.preconditioned)
    return here


def _is_sufficient(value: float, before: float, promised: float) -> bool:
    """Check Armijo's condition, with room for rounding; False for a value that is not a number."""
    return value <= before + SUFFICIENT_DECREASE * promised + RELATIVE_ROUNDING * abs(before)


def _choose_shortening(rise: float, promised: float) -> float:
    """Return the minimum of the parabola through the known values, from a tenth to a half."""
    if not np.isfinite(rise):
        return 0.1
    return float(np.clip(-promised / (2 * (rise - promised)), 0.1, 0.5))


class CurvaturePairs:
    """Pairs of steps and changes of the gradient as rows of matrices, with their products.

    Parameters
    ----------
    start : Solution
        With the pairs to begin with.
    inverse : callable
        The approximate inverse Hessian.
    """

    def __init__(self, start: Solution, inverse: InverseHessian) -> None:
        import torch

        size = start.point.numel()
        self._steps = start.point.new_zeros(MAX_PAIRS, size)
        self._changes = start.point.new_zeros(MAX_PAIRS, size)
        self._preconditioned = start.point.new_zeros(MAX_PAIRS, size)  # the inverse times each change
        self._step_change = np.zeros((MAX_PAIRS, MAX_PAIRS))  # products of steps with changes
        self._change_change = np.zeros((MAX_PAIRS, MAX_PAIRS))  # of changes with the inverse times changes
        self._order: list[int] = []  # rows of the pairs, the oldest first
        if start.steps:
            preconditioned_changes = inverse(torch.stack(start.changes))
            for step, change, preconditioned in zip(start.steps, start.changes, preconditioned_changes, strict=True):
                self.append(step, change, preconditioned)

    def append(self, step: Tensor, change: Tensor, preconditioned_change: Tensor) -> None:
        """Add a pair, in place of the oldest if there are too many.

        Parameters
        ----------
        step, change : Tensor
        preconditioned_change : Tensor
            The approximate inverse Hessian times `change`.
        """
        row = len(self._order) if len(self._order) < MAX_PAIRS else self._order.pop(0)
        self._order.append(row)
        self._steps[row] = step.flatten()
        self._changes[row] = change.flatten()
        self._preconditioned[row] = preconditioned_change.flatten()
        self._step_change[:, row] = to_float64(self._steps @ self._changes[row])
        self._step_change[row] = to_float64(self._changes @ self._steps[row])
        self._change_change[:, row] = to_float64(self._preconditioned @ self._changes[row])
        self._change_change[row] = to_float64(self._changes @ self._preconditioned[row])

    def precondition(self, found: Evaluation) -> Tensor:
        """Return the L-BFGS approximation of the inverse Hessian, times a gradient.

        The compact form, equation 3.1 of Byrd, Nocedal and Schnabel (1994).

        Parameters
        ----------
        found : Evaluation
            With the gradient, and the initial inverse times it.
        """
        import torch

        if not self._order:
            return found.preconditioned
        order = np.array(self._order)
        gradient = found.gradient.flatten()

        # The products of pairs with one another and with the gradient, the oldest pair first.
        step_change = self._step_change[np.ix_(order, order)]
        change_change = self._change_change[np.ix_(order, order)]
        step_gradient = to_float64(self._steps @ gradient)[order]
        change_gradient = to_float64(self._preconditioned @ gradient)[order]

        # The weights of steps and of preconditioned changes.
        scale = step_change[-1, -1] / change_change[-1, -1]
        weights = np.zeros((2, MAX_PAIRS))
        weights[:, order] = _solve_compact_form(
            step_change,
            scale * change_change,
            step_gradient=step_gradient,
            change_gradient=scale * change_gradient,
        )
        step_weights, change_weights = torch.tensor(weights, dtype=gradient.dtype, device=gradient.device)

        correction = step_weights @ self._steps - scale * change_weights @ self._preconditioned
        result: Tensor = scale * found.preconditioned + correction.view(found.preconditioned.shape)
        return result


def _solve_compact_form(
    step_change: NDArray[Any],
    change_change: NDArray[Any],
    *,
    step_gradient: NDArray[Any],
    change_gradient: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the weights of steps and of scaled changes in the compact form."""
    from scipy.linalg import solve_triangular

    upper = np.triu(step_change)
    change_weights = solve_triangular(upper, step_gradient)
    diagonal = np.diag(np.diag(step_change))
    inner = (diagonal + change_change) @ change_weights - change_gradient
    step_weights = solve_triangular(upper, inner, trans="T")
    return step_weights, change_weights


def to_float64(tensor: Tensor) -> NDArray[np.float64]:
    """Return a tensor of any precision and device as an array of float64.

    Parameters
    ----------
    tensor : Tensor
    """
    array: NDArray[np.float64] = tensor.double().cpu().numpy()
    return array


def dot(one: Tensor, other: Tensor) -> float:
    """Return the sum, in float64, of the products of two tensors' elements.

    Parameters
    ----------
    one, other : Tensor
        Of the same shape.
    """
    import torch

    return float((one * other).sum(dtype=torch.float64))


def _length_of_weights(point: Tensor) -> float:
    """Return the length of the weights; the last row of a point are the intercepts."""
    return float(point[:-1].norm())


def run_searches(
    searches: Sequence[Search], evaluate: Callable[[list[int], list[Tensor]], list[Evaluation]]
) -> list[Solution]:
    """Let searches advance together until all have ended.

    Parameters
    ----------
    searches : sequence of generators
        From :func:`minimise`.
    evaluate : callable
        Takes the numbers of the searches that continue, and their points; returns their evaluations.

    Returns
    -------
    list of Solution
        In the order of `searches`.
    """
    solutions: dict[int, Solution] = {}
    points = {number: next(search) for number, search in enumerate(searches)}
    while points:
        numbers = list(points)
        evaluations = evaluate(numbers, list(points.values()))
        for number, evaluation in zip(numbers, evaluations, strict=True):
            try:
                points[number] = searches[number].send(evaluation)
            except StopIteration as stop:
                solutions[number] = stop.value
                del points[number]
    return [solutions[number] for number in range(len(searches))]
