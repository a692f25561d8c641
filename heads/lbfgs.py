"""L-BFGS as a coroutine: many problems advance together, and whoever drives them evaluates all in one pass."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

MEMORY = 20
"""Pairs of steps and changes of the gradient that are kept."""
ARMIJO = 1e-4
ROUNDING = 1e-9
"""Relative error of an objective, summed in float64 of losses in float32, below which an increase is none."""
SHORTEST = 1e-6


class Evaluation(NamedTuple):
    """What an objective is at a point: its value, its gradient, and the diagonal of its Hessian, roughly."""

    value: float
    gradient: Tensor
    diagonal: Tensor | None


@dataclass
class Minimum:
    """A point and what was learned on the way to it, from which a neighbouring problem starts.

    Parameters
    ----------
    point : Tensor
    value : float
    penalty : Tensor
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


def minimise(start: Minimum, penalty: Tensor, tolerance: float, max_iter: int) -> Search:
    """Minimise a smooth, convex objective; yields points and wants their evaluation.

    L-BFGS (Liu and Nocedal 1989) in its compact form (Byrd, Nocedal and Schnabel 1994), started from a diagonal. Pairs
    that were seen under another quadratic penalty are kept: what the penalty adds to them is known exactly.

    Parameters
    ----------
    start : Minimum
        Where to start, with the pairs of a neighbouring problem.
    penalty : Tensor
        Of this problem: the diagonal that its quadratic penalty adds to the Hessian.
    tolerance : float
        The search ends when the objective is estimated to be above its minimum by no more than this share of it.
    max_iter : int

    Yields
    ------
    Tensor
        A point, whose :class:`Evaluation` is to be sent; that of the first needs its diagonal.
    """
    here = _moved(start, penalty)
    value, gradient, diagonal = yield here.point
    here.value, here.n_evaluations = value, 1
    for _ in range(max_iter):
        direction = _direction(here, gradient, diagonal)
        slope = _dot(gradient, direction)
        if -slope / 2 <= tolerance * abs(here.value):
            here.converged = True
            break
        length = 1.0
        found = yield here.point + direction
        here.n_evaluations += 1
        while not found.value <= here.value + ARMIJO * length * slope + ROUNDING * abs(here.value):
            length *= _shrunk(found.value - here.value, length * slope)
            if length < SHORTEST:
                return here
            found = yield here.point + length * direction
            here.n_evaluations += 1
        _remember(here, length * direction, found.gradient - gradient)
        here.point, here.value, gradient = here.point + length * direction, found.value, found.gradient
    return here


def _moved(start: Minimum, penalty: Tensor) -> Minimum:
    """Return the start with the pairs that its path would have had under this penalty."""
    here = Minimum(start.point, penalty=penalty)
    more = 0.0 if start.penalty is None else penalty - start.penalty
    for step, change in zip(start.steps, start.changes, strict=True):
        _remember(here, step, change + more * step)
    return here


def _remember(here: Minimum, step: Tensor, change: Tensor) -> None:
    """Keep a pair unless rounding made it say that the objective is not convex."""
    if _dot(step, change) > 1e-12 * _dot(change, change) ** 0.5 * _dot(step, step) ** 0.5:
        here.steps, here.changes = [*here.steps, step][-MEMORY:], [*here.changes, change][-MEMORY:]


def _shrunk(rise: float, slope: float) -> float:
    """Return the minimum of the parabola through what is known, within a tenth and a half."""
    return float(np.clip(-slope / (2 * (rise - slope)), 0.1, 0.5)) if np.isfinite(rise) else 0.1


def _direction(here: Minimum, gradient: Tensor, diagonal: Tensor) -> Tensor:
    """Return minus the approximate inverse of the Hessian, times the gradient."""
    import torch

    if not here.steps:
        return -gradient / diagonal
    steps, changes = (torch.stack(pairs).flatten(1) for pairs in (here.steps, here.changes))
    inverse = 1 / diagonal.flatten()
    scale = _dot(steps[-1], changes[-1]) / _dot(changes[-1], changes[-1] * inverse)
    inverse, flat = scale * inverse, gradient.flatten()
    scaled = changes * inverse
    of_steps, of_changes = _weights(
        *(product.double().cpu().numpy() for product in (steps @ changes.T, scaled @ changes.T, steps @ flat, scaled @ flat))
    )
    to = {"dtype": flat.dtype, "device": flat.device}
    moved = inverse * flat + torch.tensor(of_steps, **to) @ steps - torch.tensor(of_changes, **to) @ scaled
    return -moved.reshape(gradient.shape)


def _weights(sy: NDArray[Any], yy: NDArray[Any], sg: NDArray[Any], yg: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the weights of steps and of scaled changes in the compact form."""
    from scipy.linalg import solve_triangular

    upper = np.triu(sy)
    of_changes = solve_triangular(upper, sg)
    inner = (np.diag(np.diag(sy)) + yy) @ of_changes - yg
    return solve_triangular(upper, inner, trans="T"), of_changes


def _dot(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum(dtype=one.double().dtype))


def drive(searches: Sequence[Search], evaluate: Any) -> list[Minimum]:
    """Let searches advance together until all have ended.

    Parameters
    ----------
    searches : sequence of generators
        Of :func:`minimise`.
    evaluate : callable
        Takes the numbers of the searches that go on, their points, and whether diagonals are wanted; returns their
        evaluations.

    Returns
    -------
    list of Minimum
        In the order of `searches`.
    """
    ended: dict[int, Minimum] = {}
    points = {number: next(search) for number, search in enumerate(searches)}
    first = True
    while points:
        found, numbers, first = evaluate(list(points), list(points.values()), first), list(points), False
        for number, evaluation in zip(numbers, found, strict=True):
            try:
                points[number] = searches[number].send(evaluation)
            except StopIteration as stop:
                ended[number] = stop.value
                del points[number]
    return [ended[number] for number in range(len(searches))]
