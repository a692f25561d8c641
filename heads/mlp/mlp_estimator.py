"""What the estimators with a multilayer perceptron share: parameters, and the order in which fitting does things."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight

from ...errors import InputError
from ..folds import draw_validation_rows
from .perceptron import Array, Network, Spread, fresh_network
from .recipe import PARAMETERS, Recipe
from .training import Trained, train
from .weighted_rows import Rows

FLOATS = [np.float32, np.float64]
"""The types of features; float32 is left as it is, all else becomes float64."""


@dataclass(frozen=True)
class State:
    """A fitted estimator, as another fit goes on from it.

    Parameters
    ----------
    network : Network
    labels : list
        What each output stands for.
    inputs : Spread
    targets : Spread or None
        None if targets are not standardised.
    """

    network: Network
    labels: list[Any]
    inputs: Spread
    targets: Spread | None


class MLPEstimator(BaseEstimator):  # type: ignore[misc]
    """Fitting, but for what targets are."""

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
        """Return the loss that fits the targets, as :class:`Recipe` names it."""

    @abstractmethod
    def _labels(self) -> list[Any]:
        """Return what each output stands for."""

    @abstractmethod
    def _encoded(self, rows: Rows, partial: bool) -> Rows:
        """Return rows whose targets are numbers; if not partial, note what they stand for."""

    @abstractmethod
    def _prepared(self, rows: Rows, before: State | None) -> Rows:
        """Return rows whose targets and weights can be trained with."""

    def _target_spread(self) -> Spread | None:
        return None

    def _fit(self, X: Array, y: Array, sample_weight: Any) -> None:
        before = self._state() if self.warm_start and hasattr(self, "weights_") else None
        rows = self._encoded(self._weighted(X, y, sample_weight), partial=False).merged()
        self._set_inputs(Spread.of(rows.X, rows.weight))
        rows, generator = self._prepared(rows, None), self._generator()
        network = self._initial(before, generator)
        mask = draw_validation_rows(rows.target, self.validation_fraction, generator) if self.early_stopping else None
        kept, held = (rows, None) if mask is None else (rows.take(~mask), rows.take(mask))
        trained = train(network, kept, held, self._recipe(), generator)
        self._keep(trained.network)
        self.n_iter_, self.loss_curve_, self.validation_scores_ = len(trained.losses), trained.losses, trained.scores
        for name in ("moments_", "steps_"):  # of an earlier partial_fit
            self.__dict__.pop(name, None)

    def _partial_fit(self, X: Array, y: Array, sample_weight: Any, before: State | None) -> None:
        rows = self._encoded(self._weighted(X, y, sample_weight), partial=True).merged()
        inputs = Spread.of(rows.X, rows.weight)
        self._set_inputs(inputs if before is None else before.inputs.merged(inputs))
        rows = self._prepared(rows, before)
        steps = getattr(self, "steps_", 0)
        generator = self._generator(1 + steps)
        recipe = self._recipe(epochs=1, cosine=False)
        network = self._initial(before, generator)
        if before is not None and not network.has_hidden_layers_of(before.network):
            raise InputError(
                f"hidden is {self.hidden}, and was another in the first partial_fit; call fit to start anew"
            )
        trained = train(network, rows, None, recipe, generator, getattr(self, "moments_", None), steps)
        self._keep_part(trained, steps + -(-len(rows) // self.batch_size))

    def _keep_part(self, trained: Trained, steps: int) -> None:
        self._keep(trained.network)
        self.moments_, self.steps_ = trained.moments, steps
        self.n_iter_ = getattr(self, "n_iter_", 0) + 1
        self.loss_curve_ = [*getattr(self, "loss_curve_", []), *trained.losses]
        self.validation_scores_ = getattr(self, "validation_scores_", [])

    def _recipe(self, **changes: Any) -> Recipe:
        names = ("epochs", "batch_size", "learning_rate", "weight_decay", "dropout", "mixup", "patience", "device")
        return Recipe(**{"loss": self._loss(), **{name: getattr(self, name) for name in names}, **changes})

    def _check_parameters(self) -> None:
        for name, (fits, expected) in PARAMETERS.items():
            if not fits(getattr(self, name)):
                raise InputError(f"{type(self).__name__}: {name} is {getattr(self, name)!r}; expected {expected}")

    def _generator(self, step: int = 0) -> np.random.Generator:
        """Return a generator of its own, another for each step; without a seed, another each time."""
        if self.random_state is None:
            return np.random.default_rng()
        return np.random.default_rng([int(check_random_state(self.random_state).randint(2**31 - 1)), step])

    def _weighted(self, X: Array, y: Array, sample_weight: Any) -> Rows:
        """Return the rows whose weight is not zero."""
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise InputError("sample_weight is zero for every row; expected at least one positive weight")
        rows = Rows(X, y, weight)
        return rows if weight.all() else rows.take(weight > 0)

    def _initial(self, before: State | None, generator: np.random.Generator) -> Network:
        """Return a fresh network, or the present one with the outputs that are needed now."""
        labels = self._labels()
        inputs = Spread(self.mean_, self.var_, self.weight_sum_)
        fresh = fresh_network([len(self.mean_), *self.hidden, len(labels)], inputs, generator)
        if before is None or not before.network.has_hidden_layers_of(fresh):
            return fresh
        place = {label: number for number, label in enumerate(labels)}
        kept = [(number, place[label]) for number, label in enumerate(before.labels) if label in place]
        network = before.network.with_inputs(before.inputs, inputs).with_units(fresh, kept)
        now = self._target_spread()
        return (
            network if before.targets is None or now is None or not kept else network.with_outputs(before.targets, now)
        )

    def _state(self) -> State:
        inputs = Spread(self.mean_, self.var_, self.weight_sum_)
        return State(self._network(), self._labels(), inputs, self._target_spread())

    def _set_inputs(self, spread: Spread) -> None:
        self.mean_, self.var_, self.scale_ = spread.mean, spread.variance, spread.scale
        self.weight_sum_ = spread.weight

    def _keep(self, network: Network) -> None:
        self.weights_, self.biases_ = list(network.weights), list(network.biases)

    def _network(self) -> Network:
        return Network(self.mean_, self.scale_, self.weights_, self.biases_)
