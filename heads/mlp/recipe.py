"""The parameters by which a multilayer perceptron is trained, and what is allowed for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError

if TYPE_CHECKING:
    import torch


def _number(kind: Any, fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind) and not isinstance(value, bool) and bool(fits(value))


_positive = _number(Integral, lambda value: value >= 1)
_at_least_zero = _number(Real, lambda value: 0 <= value < np.inf)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_hidden(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) in (1, 2) and all(_positive(units) for units in value)


PARAMETERS = {
    "hidden": (_is_hidden, "a tuple of one or two positive integers"),
    "dropout": (_number(Real, lambda value: 0 <= value < 1), "a number from 0 to below 1"),
    "epochs": (_positive, "a positive integer"),
    "batch_size": (_positive, "a positive integer"),
    "learning_rate": (_number(Real, lambda value: 0 < value < np.inf), "a positive number"),
    "weight_decay": (_at_least_zero, "a number of at least 0"),
    "early_stopping": (_is_bool, "True or False"),
    "validation_fraction": (_number(Real, lambda value: 0 < value <= 0.5), "a number above 0 and up to 0.5"),
    "patience": (_positive, "a positive integer"),
    "mixup": (_at_least_zero, "a number of at least 0"),
    "warm_start": (_is_bool, "True or False"),
    "device": (lambda value: isinstance(value, str), "'auto' or a torch device, such as 'cpu' or 'cuda'"),
}
"""For each parameter of both estimators: whether a value is allowed, and what is, in words."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the parameters are those of the estimators.

    Parameters
    ----------
    loss : {"classes", "labels", "values"}
        Cross entropy of a softmax, of a sigmoid for each output, or the squared error.
    epochs, batch_size, patience : int
    learning_rate, weight_decay, dropout, mixup : float
    device : str
    cosine : bool
        Whether the learning rate falls to zero along a half cosine (Loshchilov and Hutter 2017).
    """

    loss: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    dropout: float
    mixup: float
    patience: int
    device: str
    cosine: bool = True


def torch_device(name: str) -> torch.device:
    """Return torch's device.

    Parameters
    ----------
    name : str
        "auto" for CUDA if there is any, or torch's name.

    Raises
    ------
    InputError
        If torch does not know the device, or cannot use it.
    """
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
