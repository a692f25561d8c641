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
MIN_STEP_LIMIT = 5e-3
"""A search continues while its next step is longer than a share of the length of the weights: of at least this much."""
STEP_LIMIT_TO_ROOT_OF_TOLERANCE = 1.6
"""The share, for loose tolerances: an excess of the objective grows with the square of the distance."""
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

    The pairs are differences of points (`steps`) and of gradients (`changes`), the latest last; `penalty` is the
    diagonal of the quadratic penalty's Hessian under which they were found, broadcast to the point.
    """

    point: Tensor
    value: float = np.inf
    penalty: Tensor | None = None
    steps: list[Tensor] = field(default_factory=list)
    changes: list[Tensor] = field(default_factory=list)
    n_evaluations: int = 0
    converged: bool = False

    def add_pair(self, step: Tensor, change: Tensor) -> bool:
        """Add a pair, and drop the oldest of too many; a pair that denies the objective's convexity is rounding.

        Returns whether the pair was added.
        """
        smallest = MIN_RELATIVE_CURVATURE * dot(change, change) ** 0.5 * dot(step, step) ** 0.5
        if not dot(step, change) > smallest:
            return False
        self.steps = [*self.steps, step][-MAX_PAIRS:]
        self.changes = [*self.changes, change][-MAX_PAIRS:]
        return True

    def with_penalty(self, penalty: Tensor) -> Solution:
        """Return a solution to start from, with the pairs that the same steps would have under another penalty."""
        moved = Solution(self.point, penalty=penalty)
        if self.penalty is None:
            return moved
        difference = penalty - self.penalty
        for step, change in zip(self.steps, self.changes, strict=True):
            moved.add_pair(step, change + difference * step)
        return moved


Search = Generator["Tensor", Evaluation, Solution]


def minimise(start: Solution, penalty: Tensor, inverse: InverseHessian, *, tolerance: float, max_iter: int) -> Search:
    """Minimise a smooth, convex objective; a coroutine that yields points and expects their evaluations.

    L-BFGS (Liu and Nocedal 1989) in its compact form (Byrd, Nocedal and Schnabel 1994), with an approximate inverse
    Hessian in place of a scaled identity, and backtracking to Armijo's condition. Pairs that were found under another
    quadratic penalty are kept: what the penalty adds to them is known exactly. `penalty` is the diagonal that it adds
    to the Hessian. The search ends when the objective is estimated to be above its minimum by no more than the share
    `tolerance` of it.
    """
    here = start.with_penalty(penalty)
    pairs = CurvaturePairs(here, inverse)
    found = yield here.point
    here.value = found.value
    here.n_evaluations = 1
    for _ in range(max_iter):
        last = found
        direction = -pairs.precondition(last)
        slope = dot(last.gradient, direction)
        here.converged = is_near_minimum(here, direction, slope=slope, tolerance=tolerance)
        if here.converged:
            break

        taken = yield from search_line(here, direction, slope)
        if taken is None:  # rounding decides: start again without pairs, or end if there were none
            here.converged = not here.steps
            return replace(here, steps=[], changes=[])

        # Take the step, and remember what it says about the curvature.
        step, found = taken
        here.point = here.point + step
        here.value = found.value
        change = found.gradient - last.gradient
        if here.add_pair(step, change):
            pairs.append(step, change, preconditioned_change=found.preconditioned - last.preconditioned)
    return here


def is_near_minimum(here: Solution, direction: Tensor, *, slope: float, tolerance: float) -> bool:
    """Check whether the next step is short, and promises too little."""
    length = float(direction[:-1].norm())  # of the weights: the last row are the intercepts
    length_of_weights = float(here.point[:-1].norm())
    estimated_excess = -slope / 2 * MAX_UNDERESTIMATE
    step_limit = max(MIN_STEP_LIMIT, STEP_LIMIT_TO_ROOT_OF_TOLERANCE * tolerance**0.5)
    is_short = length <= step_limit * length_of_weights
    return is_short and estimated_excess <= tolerance * max(abs(here.value), OBJECTIVE_FLOOR)


def search_line(
    here: Solution, direction: Tensor, slope: float
) -> Generator[Tensor, Evaluation, tuple[Tensor, Evaluation] | None]:
    """Shorten a step until the objective decreases enough, by Armijo's condition with room for rounding.

    Yields points and expects their evaluations, as :func:`minimise` does. Returns the step and the evaluation behind
    it, or None if the step became so short that rounding decides. A value that is not a number is no decrease.
    """
    shortest = SHORTEST_STEP if here.steps else SHORTEST_FIRST_STEP
    length = 1.0
    while length >= shortest:
        step = length * direction
        found = yield here.point + step
        here.n_evaluations += 1
        promised = length * slope
        if found.value <= here.value + SUFFICIENT_DECREASE * promised + RELATIVE_ROUNDING * abs(here.value):
            return step, found
        length *= choose_shortening(rise=found.value - here.value, promised=promised)
    return None


def choose_shortening(rise: float, promised: float) -> float:
    """Return the minimum of the parabola through the known values, from a tenth to a half."""
    if not np.isfinite(rise):
        return 0.1
    return float(np.clip(-promised / (2 * (rise - promised)), 0.1, 0.5))


class CurvaturePairs:
    """Pairs of steps and changes of the gradient as rows of matrices, with their products; first those of a start."""

    def __init__(self, start: Solution, inverse: InverseHessian) -> None:
        import torch

        shape = (MAX_PAIRS, start.point.numel())
        self._steps = start.point.new_zeros(shape)
        self._changes = start.point.new_zeros(shape)
        self._preconditioned = start.point.new_zeros(shape)  # the inverse times each change
        self._step_change = np.zeros((MAX_PAIRS, MAX_PAIRS))  # products of steps with changes
        self._change_change = np.zeros((MAX_PAIRS, MAX_PAIRS))  # of changes with the inverse times changes
        n_pairs = len(start.steps)
        self._order = list(range(n_pairs))  # rows of the pairs, the oldest first
        if n_pairs == 0:
            return
        steps = torch.stack(start.steps)
        changes = torch.stack(start.changes)
        self._steps[:n_pairs] = steps.flatten(1)
        self._changes[:n_pairs] = changes.flatten(1)
        self._preconditioned[:n_pairs] = inverse(changes).flatten(1)
        self._step_change[:n_pairs, :n_pairs] = to_float64(self._steps[:n_pairs] @ self._changes[:n_pairs].T)
        self._change_change[:n_pairs, :n_pairs] = to_float64(self._preconditioned[:n_pairs] @ self._changes[:n_pairs].T)

    def append(self, step: Tensor, change: Tensor, preconditioned_change: Tensor) -> None:
        """Add a pair, in place of the oldest if there are too many."""
        row = len(self._order) if len(self._order) < MAX_PAIRS else self._order.pop(0)
        self._order.append(row)
        self._steps[row] = step.flatten()
        self._changes[row] = change.flatten()
        self._preconditioned[row] = preconditioned_change.flatten()
        used = len(self._order)  # rows are filled from the first
        self._step_change[:used, row] = to_float64(self._steps[:used] @ self._changes[row])
        self._step_change[row, :used] = to_float64(self._changes[:used] @ self._steps[row])
        products = to_float64(self._preconditioned[:used] @ self._changes[row])
        self._change_change[:used, row] = products
        self._change_change[row, :used] = products  # the inverse is symmetric

    def precondition(self, found: Evaluation) -> Tensor:
        """Return the L-BFGS approximation of the inverse Hessian, times a gradient.

        The compact form, equation 3.1 of Byrd, Nocedal and Schnabel (1994).
        """
        if not self._order:
            return found.preconditioned
        latest = self._order[-1]
        scale = self._step_change[latest, latest] / self._change_change[latest, latest]
        step_weights, change_weights = self.weigh(found.gradient.flatten(), scale)
        used = len(self._order)
        correction = step_weights @ self._steps[:used] - scale * change_weights @ self._preconditioned[:used]
        result: Tensor = scale * found.preconditioned + correction.view(found.preconditioned.shape)
        return result

    def weigh(self, gradient: Tensor, scale: float) -> Tensor:
        """Return the weights ``(2, n_pairs)`` of steps and of preconditioned changes, by row."""
        import torch

        order = np.array(self._order)  # the oldest pair first
        by_age = np.ix_(order, order)
        used = len(order)
        weights = np.zeros((2, used))
        weights[:, order] = solve_compact_form(
            self._step_change[by_age],
            scale * self._change_change[by_age],
            step_gradient=to_float64(self._steps[:used] @ gradient)[order],
            change_gradient=scale * to_float64(self._preconditioned[:used] @ gradient)[order],
        )
        return torch.tensor(weights, dtype=gradient.dtype, device=gradient.device)


def solve_compact_form(
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
    """Return a tensor of any precision and device as an array of float64."""
    array: NDArray[np.float64] = tensor.double().cpu().numpy()
    return array


def dot(one: Tensor, other: Tensor) -> float:
    """Return the sum, in float64, of the products of two tensors' elements."""
    import torch

    return float((one * other).sum(dtype=torch.float64))


def run_searches(
    searches: Sequence[Search], evaluate: Callable[[list[int], list[Tensor]], list[Evaluation]]
) -> list[Solution]:
    """Let searches of :func:`minimise` advance together until all have ended, and return their solutions.

    `evaluate` takes the numbers of the searches that continue, and their points; it returns their evaluations.
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
