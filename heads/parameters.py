"""Parameters of heads: what is allowed for them, their check at ``fit``, and the choice of torch's device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Constraint:
    """What a parameter may be; the description ends errors: "expected {description}"."""

    description: str
    is_met: Callable[[Any], bool]


Constraints = Mapping[str, Constraint]
"""Constraints by the names of the parameters."""


def is_integer(value: Any) -> bool:
    """Check whether a value is an integer; booleans are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Check whether a value is a real number; booleans are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def number(description: str, is_allowed: Callable[[Any], bool]) -> Constraint:
    """Return the constraint to real numbers, such as ``number("a number of at least 0", lambda x: x >= 0)``."""
    return Constraint(description, lambda value: is_number(value) and bool(is_allowed(value)))


def one_of(*names: str) -> Constraint:
    """Return the constraint to some names."""
    return Constraint(" or ".join(repr(name) for name in names), lambda value: value in names)


BOOLEAN = Constraint("True or False", lambda value: isinstance(value, bool | np.bool_))
POSITIVE_INTEGER = Constraint("a positive integer", lambda value: is_integer(value) and value >= 1)
POSITIVE_NUMBER = number("a positive number", lambda value: 0 < value < np.inf)
NUMBER_FROM_0 = number("a number of at least 0", lambda value: 0 <= value < np.inf)
NUMBER_FROM_0_BELOW_1 = number("a number from 0 to below 1", lambda value: 0 <= value < 1)
NUMBER_BETWEEN_0_AND_1 = number("a number between 0 and 1", lambda value: 0 < value < 1)
NUMBER_UP_TO_HALF = number("a number above 0 and up to 0.5", lambda value: 0 < value <= 0.5)
CLASS_WEIGHT = Constraint(
    "None, 'balanced', or a dict of classes and weights",
    lambda value: value is None or isinstance(value, dict) or (isinstance(value, str) and value == "balanced"),
)
DEVICE = Constraint("'auto' or a torch device, such as 'cpu' or 'cuda'", lambda value: isinstance(value, str))


def check_parameters(estimator: Any, constraints: Constraints) -> None:
    """Check the parameters of an estimator; an error names it, the parameter, its value and what is allowed."""
    for name, constraint in constraints.items():
        value = getattr(estimator, name)
        if not constraint.is_met(value):
            raise InputError(f"{type(estimator).__name__}: {name} is {value!r}; expected {constraint.description}")


def select_torch_device(name: str) -> torch.device:
    """Return torch's device of a name, "auto" for CUDA if it is available; one that cannot be used is an error."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used ({reason}); expected 'auto', 'cpu' or 'cuda'") from error
    return device
