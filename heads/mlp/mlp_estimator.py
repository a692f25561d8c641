"""The common part of the estimators with a multilayer perceptron: parameters, and the order of steps in fitting."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ...errors import InputError
from ..folds import draw_validation_rows
from ..parameters import (
    BOOLEAN,
    DEVICE,
    NUMBER_FROM_0,
    NUMBER_FROM_0_BELOW_1,
    NUMBER_UP_TO_HALF,
    POSITIVE_INTEGER,
    POSITIVE_NUMBER,
    Constraint,
    Constraints,
    check_parameters,
)
from ..standardisation import MeanVariance
from ..targets import check_row_weights
from .perceptron import Array, Perceptron, initialise_perceptron
from .training import AdamWState, TrainingOptions, WeightedRows, train

FEATURE_TYPES = [np.float32, np.float64]
"""The types of features that are left as they are; all others become float64."""
MAX_HIDDEN_LAYERS = 2
MAX_SEED = 2**31 - 1

TRAINING_PARAMETERS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "dropout",
    "mixup",
    "patience",
    "device",
)
"""Parameters of the estimators that are handed to :class:`TrainingOptions`."""


def are_hidden_layers(value: Any) -> bool:
    """Check whether a value is the numbers of units of one or two layers."""
    is_sequence = isinstance(value, tuple | list) and 1 <= len(value) <= MAX_HIDDEN_LAYERS
    return is_sequence and all(POSITIVE_INTEGER.is_met(units) for units in value)


@dataclass(frozen=True)
class MLPWarmStart:
    """A fitted perceptron, from which the next fit starts; `targets` is None if these are not standardised."""

    perceptron: Perceptron
    outputs: list[Any]
    inputs: MeanVariance
    targets: MeanVariance | None

    def adapt(
        self, fresh: Perceptron, outputs: list[Any], *, inputs: MeanVariance, targets: MeanVariance | None
    ) -> Perceptron:
        """Return the perceptron for other outputs and statistics; new outputs are those of a fresh one."""
        # Keep the hidden layers, and the outputs that have the same name.
        number_of_output = {name: number for number, name in enumerate(outputs)}
        kept = [
            (number, number_of_output[name]) for number, name in enumerate(self.outputs) if name in number_of_output
        ]
        perceptron = self.perceptron.with_inputs(self.inputs, inputs).with_outputs(fresh, kept)

        # Scale kept outputs to the present targets.
        if kept and targets is not None and self.targets is not None:
            perceptron = perceptron.with_targets(self.targets, targets)
        return perceptron


class MLPEstimator(BaseEstimator):  # type: ignore[misc]
    """The steps of fitting that do not depend on the kind of targets."""

    _constraints: ClassVar[Constraints] = {
        "hidden": Constraint("a tuple of one or two positive integers", are_hidden_layers),
        "dropout": NUMBER_FROM_0_BELOW_1,
        "epochs": POSITIVE_INTEGER,
        "batch_size": POSITIVE_INTEGER,
        "learning_rate": POSITIVE_NUMBER,
        "weight_decay": NUMBER_FROM_0,
        "early_stopping": BOOLEAN,
        "validation_fraction": NUMBER_UP_TO_HALF,
        "patience": POSITIVE_INTEGER,
        "mixup": NUMBER_FROM_0,
        "warm_start": BOOLEAN,
        "device": DEVICE,
    }

    def __init__(
        self,
        hidden: tuple[int, ...] = (256,),
        *,
        dropout: float = 0.0,
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        patience: int = 10,
        mixup: float = 0.0,
        warm_start: bool = False,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.mixup = mixup
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device

    @abstractmethod
    def _loss(self) -> str:
        """Return the loss for the targets, as :class:`TrainingOptions` names it."""

    @abstractmethod
    def _name_outputs(self) -> list[Any]:
        """Return names of the outputs, by which a warm start finds them again."""

    @abstractmethod
    def _encode_targets(self, rows: WeightedRows, *, is_partial: bool) -> WeightedRows:
        """Return rows whose targets are numbers; if not partial, note what they stand for."""

    @abstractmethod
    def _prepare_targets(self, rows: WeightedRows, warm_start: MLPWarmStart | None) -> WeightedRows:
        """Return rows with targets and weights to train on."""

    def _target_statistics(self) -> MeanVariance | None:
        """Return mean and variance of the targets; None if they are not standardised."""
        return None

    def _fit(self, X: Array, y: Array, sample_weight: Any) -> None:
        # The present weights come first, as preparing the rows changes what their outputs stand for.
        warm_start = None
        if self.warm_start and hasattr(self, "weights_"):
            warm_start = self._make_warm_start()
        rows = self._prepare_rows(X, y, sample_weight)

        # Train, and hold rows out to stop by.
        generator = self._make_generator()
        perceptron = self._make_perceptron(warm_start, generator)
        is_held_out = None
        if self.early_stopping:
            is_held_out = draw_validation_rows(rows.target, self.validation_fraction, generator)
        validation = None
        if is_held_out is not None:
            validation = rows.take(is_held_out)
            rows = rows.take(~is_held_out)
        result = train(perceptron, rows, validation, options=self._make_options(), generator=generator)

        # Keep the weights; the optimiser's state would be that of an earlier partial_fit.
        self._set_perceptron(result.perceptron)
        self.n_iter_ = len(result.losses)
        self.loss_curve_ = result.losses
        self.validation_scores_ = result.scores
        self.__dict__.pop("moments_", None)
        self.__dict__.pop("steps_", None)

    def _partial_fit(self, X: Array, y: Array, sample_weight: Any, warm_start: MLPWarmStart | None) -> None:
        rows = self._prepare_rows(X, y, sample_weight, is_partial=True, earlier=warm_start)

        # Train for one epoch, at a constant learning rate.
        steps = getattr(self, "steps_", 0)
        generator = self._make_generator(step=1 + steps)
        options = self._make_options(epochs=1, cosine=False)
        perceptron = self._make_perceptron(warm_start, generator)
        if warm_start is not None and not perceptron.has_same_layers(warm_start.perceptron):
            raise InputError(
                f"hidden is {self.hidden}, and was another in the first partial_fit; call fit to start anew"
            )
        state = AdamWState(getattr(self, "moments_", ()), steps)
        result = train(perceptron, rows, None, options=options, generator=generator, state=state)

        # Keep the weights and the optimiser's state.
        self._set_perceptron(result.perceptron)
        self.moments_ = result.moments
        self.steps_ = steps + -(-len(rows) // self.batch_size)
        self.n_iter_ = getattr(self, "n_iter_", 0) + 1
        self.loss_curve_ = [*getattr(self, "loss_curve_", []), *result.losses]
        self.validation_scores_ = getattr(self, "validation_scores_", [])

    def _prepare_rows(
        self, X: Array, y: Array, sample_weight: Any, *, is_partial: bool = False, earlier: MLPWarmStart | None = None
    ) -> WeightedRows:
        """Return the rows to train on, and note their mean and variance, together with those of earlier parts."""
        weight = check_row_weights(sample_weight, X)
        rows = WeightedRows(X, y, weight)
        if not weight.all():
            rows = rows.take(weight > 0)
        rows = self._encode_targets(rows, is_partial=is_partial).merge_equal()
        inputs = MeanVariance.of(rows.X, rows.weight)
        if earlier is not None:
            inputs = earlier.inputs.merged(inputs)
        self.mean_ = inputs.mean
        self.var_ = inputs.variance
        self.scale_ = inputs.scale
        self.weight_sum_ = inputs.weight
        return self._prepare_targets(rows, earlier)

    def _make_options(self, **changes: Any) -> TrainingOptions:
        options = {name: getattr(self, name) for name in TRAINING_PARAMETERS}
        return TrainingOptions(loss=self._loss(), **options | changes)

    def _compute_outputs(self, X: Any) -> Array:
        """Return the outputs ``(n_rows, n_outputs)`` of the fitted perceptron; float32 if `X` is, else float64."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FEATURE_TYPES, reset=False)
        return self._perceptron().compute_outputs(X)

    def _check_parameters(self) -> None:
        check_parameters(self, self._constraints)

    def _make_generator(self, step: int = 0) -> np.random.Generator:
        """Return a generator for a step of training; without ``random_state`` it differs each time."""
        if self.random_state is None:
            return np.random.default_rng()
        seed = int(check_random_state(self.random_state).randint(MAX_SEED))
        return np.random.default_rng([seed, step])

    def _make_perceptron(self, warm_start: MLPWarmStart | None, generator: np.random.Generator) -> Perceptron:
        """Return a fresh perceptron, or the present one with the outputs that are needed now."""
        inputs = self._input_statistics()
        outputs = self._name_outputs()
        sizes = [len(self.mean_), *self.hidden, len(outputs)]
        fresh = initialise_perceptron(sizes, inputs, generator)
        if warm_start is None or not warm_start.perceptron.has_same_layers(fresh):
            return fresh
        return warm_start.adapt(fresh, outputs, inputs=inputs, targets=self._target_statistics())

    def _make_warm_start(self) -> MLPWarmStart:
        return MLPWarmStart(
            perceptron=self._perceptron(),
            outputs=self._name_outputs(),
            inputs=self._input_statistics(),
            targets=self._target_statistics(),
        )

    def _input_statistics(self) -> MeanVariance:
        """Return mean and variance of the features."""
        return MeanVariance(self.mean_, self.var_, self.weight_sum_)

    def _set_perceptron(self, perceptron: Perceptron) -> None:
        self.weights_ = list(perceptron.weights)
        self.biases_ = list(perceptron.biases)

    def _perceptron(self) -> Perceptron:
        return Perceptron(mean=self.mean_, scale=self.scale_, weights=self.weights_, biases=self.biases_)
