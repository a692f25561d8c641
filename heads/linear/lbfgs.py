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
        if not are_convex(step[None], change[None])[0]:
            return False
        self.steps = [*self.steps, step][-MAX_PAIRS:]
        self.changes = [*self.changes, change][-MAX_PAIRS:]
        return True

    def with_penalty(self, penalty: Tensor) -> Solution:
        """Return a solution to start from, with the pairs that the same steps would have under another penalty."""
        import torch

        moved = Solution(self.point, penalty=penalty)
        if self.penalty is None or not self.steps:
            return moved
        steps = torch.stack(self.steps)
        changes = torch.stack(self.changes) + (penalty - self.penalty) * steps
        is_kept = torch.tensor(are_convex(steps, changes), device=steps.device)
        moved.steps = list(steps[is_kept])
        moved.changes = list(changes[is_kept])
        return moved


def are_convex(steps: Tensor, changes: Tensor) -> list[bool]:
    """Check which pairs ``(n_pairs, rank + 1, n_outputs)`` agree with the objective's convexity, beyond rounding."""
    import torch

    products = (steps * changes).flatten(1).sum(1, dtype=torch.float64)
    squares = steps.square().flatten(1).sum(1, dtype=torch.float64)
    squared_changes = changes.square().flatten(1).sum(1, dtype=torch.float64)
    smallest = MIN_RELATIVE_CURVATURE * (squares * squared_changes).sqrt()
    convex: list[bool] = (products > smallest).tolist()
    return convex


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

        size = start.point.numel()
        n_pairs = len(start.steps)
        self._changes = start.point.new_zeros(MAX_PAIRS, size)
        self._directions = start.point.new_zeros(MAX_PAIRS, 2, size)  # each step, and the inverse times its change
        self._order = list(range(n_pairs))  # rows of the pairs, the oldest first
        self._step_change = np.zeros((MAX_PAIRS, MAX_PAIRS))  # products of steps with changes, the oldest first
        self._change_change = np.zeros((MAX_PAIRS, MAX_PAIRS))  # of changes with the inverse times changes
        if n_pairs == 0:
            return
        changes = torch.stack(start.changes)
        self._changes[:n_pairs] = changes.flatten(1)
        self._directions[:n_pairs, 0] = torch.stack(start.steps).flatten(1)
        self._directions[:n_pairs, 1] = inverse(changes).flatten(1)
        products = self._directions[:n_pairs] @ self._changes[:n_pairs].T  # (n_pairs, 2, n_pairs)
        self._step_change[:n_pairs, :n_pairs] = to_float64(products[:, 0])
        self._change_change[:n_pairs, :n_pairs] = to_float64(products[:, 1])

    def append(self, step: Tensor, change: Tensor, preconditioned_change: Tensor) -> None:
        """Add a pair, in place of the oldest if there are too many."""
        row = len(self._order)
        if row == MAX_PAIRS:
            row = self._order.pop(0)
            for products in (self._step_change, self._change_change):
                products[:-1, :-1] = products[1:, 1:].copy()
        self._order.append(row)
        self._changes[row] = change.flatten()
        self._directions[row, 0] = step.flatten()
        self._directions[row, 1] = preconditioned_change.flatten()
        n_pairs = len(self._order)
        last = n_pairs - 1
        with_change = self._multiply_directions(self._changes[row])  # (n_pairs, 2)
        with_step = to_float64(self._changes[:n_pairs] @ self._directions[row, 0])
        self._step_change[:n_pairs, last] = with_change[:, 0]
        self._step_change[last, :n_pairs] = with_step[self._order]
        self._change_change[:n_pairs, last] = with_change[:, 1]
        self._change_change[last, :n_pairs] = with_change[:, 1]  # the inverse is symmetric

    def precondition(self, found: Evaluation) -> Tensor:
        """Return the L-BFGS approximation of the inverse Hessian, times a gradient.

        The compact form, equation 3.1 of Byrd, Nocedal and Schnabel (1994).
        """
        import torch

        n_pairs = len(self._order)
        if n_pairs == 0:
            return found.preconditioned
        step_change = self._step_change[:n_pairs, :n_pairs]
        change_change = self._change_change[:n_pairs, :n_pairs]
        scale = step_change[-1, -1] / change_change[-1, -1]
        products = self._multiply_directions(found.gradient.flatten())  # (n_pairs, 2)
        step_weights, change_weights = solve_compact_form(
            step_change,
            scale * change_change,
            step_gradient=products[:, 0],
            change_gradient=scale * products[:, 1],
        )
        weights = np.empty(products.shape)
        weights[self._order, 0] = step_weights
        weights[self._order, 1] = -scale * change_weights
        rows = self._directions[: len(weights)].flatten(0, 1)  # (n_pairs * 2, size)
        correction = torch.tensor(weights.ravel(), dtype=rows.dtype, device=rows.device) @ rows
        result: Tensor = scale * found.preconditioned + correction.view(found.preconditioned.shape)
        return result

    def _multiply_directions(self, vector: Tensor) -> NDArray[np.float64]:
        """Return the products ``(n_pairs, 2)`` of directions with a vector, of the oldest pair first."""
        rows = self._directions[: len(self._order)].flatten(0, 1)  # (n_pairs * 2, size)
        products = to_float64(rows @ vector)
        return products.reshape(-1, 2)[self._order]


def solve_compact_form(
    step_change: NDArray[Any],
    change_change: NDArray[Any],
    *,
    step_gradient: NDArray[Any],
    change_gradient: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the weights of steps and of scaled changes in the compact form."""
    upper = np.triu(step_change)
    change_weights = np.linalg.solve(upper, step_gradient)
    diagonal = np.diag(np.diag(step_change))
    inner = (diagonal + change_change) @ change_weights - change_gradient
    step_weights = np.linalg.solve(upper.T, inner)
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
