"""Training of the layers above cuts: a linear probe first, then all of it from the probe's weights (LP-FT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...extract.graphs.layer import INPUT
from ...heads.folds import draw_splits
from ...heads.metrics import ACCURACY, compare_predictions, compute_score
from ...heads.module_training.options import ModuleTrainingOptions
from ...heads.module_training.trainer import EpochRecord, ModuleTrainer, TrainingState
from ...heads.registry import CLASSIFICATION, MULTILABEL
from ...progress import report_step
from .halving import AfterEpoch, CutTrial, train_best
from .linear_heads import fit_probe, read_weights, write_weights
from .network import TunedNetwork, compute_features, pool_maps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .stored_maps import StoredMaps

MIN_HELD_OUT_ROWS = 10
"""Fewer rows tell nothing."""


@dataclass(frozen=True)
class LabelledMaps:
    """Maps and the targets of their rows, as a trainer reads them; see :class:`TrainingRows`."""

    maps: StoredMaps
    target: NDArray[Any]
    weight: NDArray[np.float32]

    @property
    def rows_of_block(self) -> int:
        """Number of rows that are read together."""
        return self.maps.rows_of_block

    def __len__(self) -> int:
        return len(self.target)

    def read(self, rows: NDArray[Any]) -> Sequence[NDArray[Any]]:
        """Return the inputs of the network for some rows."""
        return self.maps.read(rows)


@dataclass(frozen=True)
class Division:
    """Positions of rows: to train on, to stop by, and to score by."""

    training: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]


@dataclass(frozen=True)
class Comparison:
    """What training the layers came to, on rows that neither training nor its end depended on.

    Parameters
    ----------
    metric : {"accuracy", "R2"}
    frozen : float
        Score of a linear probe on frozen features, trained on all other rows.
    frozen_layer : str
        Whose features these are: of the layer that is kept and the cuts, the best on rows that training ends by.
    tuned : float
        Score of the trained layers.
    gain, standard_error : float
        Mean difference over the rows, and the standard error of this paired difference.
    n_rows : int
    """

    metric: str
    frozen: float
    frozen_layer: str
    tuned: float
    gain: float
    standard_error: float
    n_rows: int

    @property
    def is_better(self) -> bool:
        """Whether the trained layers are better by more than twice the standard error."""
        return self.gain > 2 * self.standard_error

    def __str__(self) -> str:
        frozen = f"{self.frozen:.3f} with frozen ones (of {self.frozen_layer})"
        scores = f"{self.metric} {self.tuned:.3f} with trained layers, {frozen}"
        difference = f"{self.gain:+.3f} ± {self.standard_error:.3f} on {self.n_rows} held-out rows"
        advice = "" if self.is_better else "; within the error: the frozen features are as good, and simpler"
        return f"{scores}\n{difference}{advice}"


@dataclass(frozen=True)
class Tuning:
    """A trained network: its cut, its head, the features of all rows, and how training went."""

    cut: str
    trials: list[CutTrial]
    network: TunedNetwork
    head: Any
    features: NDArray[np.float32]
    records: list[EpochRecord]
    comparison: Comparison | None


def divide_rows(
    y: NDArray[Any],
    groups: NDArray[Any] | None,
    is_original: NDArray[np.bool_],
    *,
    shares: tuple[float, float],
    by_class: bool,
    seed: int,
) -> Division:
    """Divide rows into those to train on, to stop by and to score by, given the shares of the latter two.

    Rows of a group stay together. Views are trained on only. Where few rows would be held out, none are.
    """
    validation_share, test_share = shares
    rows = np.arange(len(y))
    rest, test = hold_out(y, groups, rows, share=test_share, by_class=by_class, seed=seed)
    training, validation = hold_out(y, groups, rest, share=validation_share, by_class=by_class, seed=seed + 1)
    return Division(training, validation[is_original[validation]], test[is_original[test]])


def hold_out(
    y: NDArray[Any],
    groups: NDArray[Any] | None,
    rows: NDArray[np.intp],
    *,
    share: float,
    by_class: bool,
    seed: int,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows that are left, and a share that is held out; none if that would be few."""
    if share * len(rows) < MIN_HELD_OUT_ROWS:
        return rows, rows[:0]
    own_groups = None if groups is None else groups[rows]
    splits = draw_splits(y[rows], own_groups, n_draws=1, test_size=share, random_state=seed, by_class=by_class)
    if not splits:
        return rows, rows[:0]
    ((left, held),) = splits
    return rows[left], rows[held]


class Task:
    """What is learned: rows with their targets and weights, and which of them are held out.

    Parameters
    ----------
    name : {"classification", "multilabel", "regression"}
    y, weights
        Targets of all rows, and their weights.
    division : Division
    """

    def __init__(self, name: str, y: NDArray[Any], weights: NDArray[np.float32], division: Division) -> None:
        self.name = name
        self.y = y
        self.weights = weights
        self.division = division
        self.loss = {CLASSIFICATION: "classes", MULTILABEL: "labels"}.get(name, "values")
        self.metric = "R2" if self.loss == "values" else ACCURACY
        self.center = y.mean(axis=0) if self.loss == "values" else 0.0
        self.scale = np.where(y.std(axis=0) > 0, y.std(axis=0), 1.0) if self.loss == "values" else 1.0

    def fit_probe(self, features: NDArray[np.float32], rows: NDArray[np.intp]) -> Any:
        """Return a linear probe of some rows."""
        return fit_probe(features[rows], self.y[rows], self.weights[rows], self.name)

    def score(self, probe: Any, features: NDArray[np.float32], rows: NDArray[np.intp]) -> float:
        """Return the score of a head on some rows."""
        return compute_score(self.metric, self.y[rows], probe.predict(features[rows]))

    def label(self, maps: StoredMaps, rows: NDArray[np.intp], classes: Any) -> LabelledMaps:
        """Return some rows to train on or to stop by."""
        y = self.y[rows]
        target: NDArray[Any]
        if self.loss == "classes":
            target = np.searchsorted(classes, y).astype(np.int64)
        else:
            target = ((y - self.center) / self.scale).astype(np.float32).reshape(len(y), -1)
        weight = self.weights[rows]
        return LabelledMaps(maps[rows].load(), target, (weight / weight.mean()).astype(np.float32))


class Tuner:
    """Trains the layers above one cut, from the weights of a linear probe.

    Parameters
    ----------
    network : TunedNetwork
        Its head is set to the probe.
    maps : StoredMaps
        Of all rows.
    task : Task
    probe : estimator
        Linear, fitted on the rows to train on, to features of this network; it has ``n_features_in_``.
    options : ModuleTrainingOptions
        The loss is that of the task unless it is a function.
    """

    def __init__(
        self, network: TunedNetwork, maps: StoredMaps, task: Task, probe: Any, options: ModuleTrainingOptions
    ) -> None:
        self.network = network
        self.maps = maps
        self.task = task
        self.probe = probe
        weight, bias = read_weights(probe, probe.n_features_in_, task.name)
        network.set_head(weight / np.reshape(task.scale, (-1, 1)), (bias - task.center) / task.scale)
        if not callable(options.loss):
            options = replace(options, loss=task.loss)  # type: ignore[arg-type]
        classes: Any = getattr(probe, "classes_", None)
        training = task.label(maps, task.division.training, classes)
        self.trainer = ModuleTrainer(network, training, self.take_validation(classes), options)

    def take_validation(self, classes: Any) -> LabelledMaps | None:
        """Return the rows to stop by, of classes that are trained on; None if there are none."""
        rows = self.task.division.validation
        if self.task.loss == "classes":
            rows = rows[np.isin(self.task.y[rows], classes)]
        return self.task.label(self.maps, rows, classes) if len(rows) else None

    def finish(self) -> tuple[Any, NDArray[np.float32]]:
        """Take the best weights; return the head as an estimator, and the features of all rows."""
        self.trainer.keep_best()
        self.network.cpu()
        weight = self.network.head.weight.detach().numpy() * np.reshape(self.task.scale, (-1, 1))
        bias = self.network.head.bias.detach().numpy() * self.task.scale + self.task.center
        head = write_weights(self.probe, weight, bias, self.task.name)
        return head, compute_features(self.network, self.maps)


def tune(
    networks: Mapping[str, TunedNetwork],
    maps: Mapping[str, StoredMaps],
    task: Task,
    options: ModuleTrainingOptions,
    *,
    after_epoch: AfterEpoch,
    states: Mapping[str, TrainingState],
) -> Tuning:
    """Train the layers above each cut as long as it is worth it, and compare the best with frozen features.

    Networks and maps are those of each cut, in order of execution; states are those of earlier training to go on from.
    """
    report_step("training a linear probe on the frozen features")
    *_, uppermost = networks
    network = networks[uppermost]
    frozen = compute_features(network, maps[uppermost])
    probe = task.fit_probe(frozen, task.division.training)
    tuners = {}
    for cut, network in networks.items():
        tuners[cut] = Tuner(network, maps[cut], task, deepcopy(probe), options)
        if cut in states:
            tuners[cut].trainer.restore_state(states[cut])
    trainers = {cut: tuner.trainer for cut, tuner in tuners.items()}
    best, trials = train_best(trainers, options.epochs, after_epoch)
    head, features = tuners[best].finish()
    comparison = None
    if len(task.division.test):
        pooled = {cut: pool_maps(networks[cut], maps[cut]) for cut in networks if cut != INPUT}
        comparison = compare(task, head, features, frozen={network.layer.name: frozen, **pooled})
    return Tuning(best, trials, tuners[best].network, head, features, tuners[best].trainer.records, comparison)


def compare(
    task: Task, head: Any, features: NDArray[np.float32], frozen: Mapping[str, NDArray[np.float32]]
) -> Comparison:
    """Compare trained layers with the best of several frozen ones on the rows that nothing was learned from.

    The frozen features are those of each layer. Which is best is decided by the validation rows; without any it is the
    first.
    """
    validation, test = task.division.validation, task.division.test
    layer, *others = frozen
    if len(validation) and others:
        scores = {
            name: task.score(task.fit_probe(values, task.division.training), values, validation)
            for name, values in frozen.items()
        }
        layer = max(scores, key=scores.__getitem__)
    known = np.setdiff1d(np.arange(len(task.y)), test)
    baseline = task.fit_probe(frozen[layer], known).predict(frozen[layer][test])
    tuned = head.predict(features[test])
    gain, error = compare_predictions(task.metric, task.y[test], tuned, baseline)
    return Comparison(
        metric=task.metric,
        frozen=compute_score(task.metric, task.y[test], baseline),
        frozen_layer=layer,
        tuned=compute_score(task.metric, task.y[test], tuned),
        gain=gain,
        standard_error=error,
        n_rows=len(test),
    )
