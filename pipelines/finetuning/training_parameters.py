"""The parameters of fine-tuning: what is allowed, and the options of training that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ...extract.graphs.pooling import AUTO
from ...heads.module_training.options import ModuleTrainingOptions
from ...heads.parameters import (
    BOOLEAN,
    DEVICE,
    NUMBER_FROM_0,
    NUMBER_FROM_0_BELOW_1,
    POSITIVE_INTEGER,
    POSITIVE_NUMBER,
    Constraint,
    one_of,
)

NAME = Constraint("the name of a layer, or 'auto'", lambda value: isinstance(value, str))
NAMES = Constraint(
    "the name of a layer, several, or 'auto'",
    lambda value: (
        isinstance(value, str) or (isinstance(value, Sequence) and all(isinstance(name, str) for name in value))
    ),
)
POOLING = Constraint("the name of a pooling, or 'auto'", lambda value: isinstance(value, str))
SEED = Constraint(
    "None, an integer or a numpy.random.RandomState",
    lambda value: value is None or isinstance(value, int | np.integer | np.random.RandomState),
)
OPTIONAL_POSITIVE = Constraint(
    "None, or a positive number", lambda value: value is None or POSITIVE_NUMBER.is_met(value)
)
SHARE_BELOW_1 = Constraint("a number from 0 to below 1", NUMBER_FROM_0_BELOW_1.is_met)
LOSS = Constraint("None, or a function of outputs and targets", lambda value: value is None or callable(value))
AUTOMATIC_RATES = {"adamw": (1e-4, 1e-3), "sgd": (1e-3, 1e-2)}
"""Learning rates that are compared if none is named; without rows to compare them by, it is the first."""
RATES = Constraint(
    "a positive number, several, or 'auto'",
    lambda value: (rates := list_rates(value)) == [AUTO] or (bool(rates) and all(map(POSITIVE_NUMBER.is_met, rates))),
)
CALLBACKS = Constraint(
    "a sequence of functions", lambda value: isinstance(value, Sequence) and all(map(callable, value))
)

CONSTRAINTS = {
    "from_layer": NAMES,
    "to": NAME,
    "pool": POOLING,
    "random_state": SEED,
    "max_disk": OPTIONAL_POSITIVE,
    "epochs": POSITIVE_INTEGER,
    "batch_size": POSITIVE_INTEGER,
    "optimizer": one_of("adamw", "sgd"),
    "learning_rate": RATES,
    "layer_decay": POSITIVE_NUMBER,
    "weight_decay": NUMBER_FROM_0,
    "warmup": SHARE_BELOW_1,
    "label_smoothing": SHARE_BELOW_1,
    "mixup": NUMBER_FROM_0,
    "brightness": NUMBER_FROM_0,
    "patience": POSITIVE_INTEGER,
    "train_batch_norm": BOOLEAN,
    "validation_fraction": SHARE_BELOW_1,
    "test_fraction": SHARE_BELOW_1,
    "train_on_all": BOOLEAN,
    "device": DEVICE,
    "loss": LOSS,
    "callbacks": CALLBACKS,
}


def list_rates(rates: Any) -> list[Any]:
    """Return one or several learning rates as a list."""
    if isinstance(rates, np.ndarray):
        return list(rates.ravel().tolist())
    return list(rates) if isinstance(rates, Sequence) and not isinstance(rates, str) else [rates]


def choose_rates(estimator: Any, *, can_compare: bool) -> list[float]:
    """Return the learning rates to try, from the lowest."""
    rates = list_rates(estimator.learning_rate)
    if rates != [AUTO]:
        return sorted(set(rates))
    automatic = AUTOMATIC_RATES[estimator.optimizer]
    return list(automatic) if can_compare else [min(automatic)]


def make_training_options(estimator: Any) -> ModuleTrainingOptions:
    """Return how an estimator trains, but for the learning rate; its random state is drawn from."""
    seed = check_random_state(estimator.random_state).randint(2**31 - 1)
    return ModuleTrainingOptions(
        loss=estimator.loss or "classes",
        epochs=estimator.epochs,
        batch_size=estimator.batch_size,
        optimizer=estimator.optimizer,
        layer_decay=estimator.layer_decay,
        weight_decay=estimator.weight_decay,
        warmup=estimator.warmup,
        label_smoothing=estimator.label_smoothing,
        mixup=estimator.mixup,
        patience=estimator.patience,
        seed=int(seed),
        device=estimator.device,
    )


def name_function(function: Any) -> str:
    """Return the module and the name of a function, or of the type of something else that is called."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
