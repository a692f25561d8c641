"""Training of the layers above cuts: a linear probe first, then all of it from the probe's weights (LP-FT)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...heads.folds import draw_splits
from ...heads.metrics import ACCURACY, R2, compare_predictions, compute_score
from ...heads.module_training.options import ModuleTrainingOptions
from ...heads.module_training.trainer import EpochRecord, ModuleTrainer, TrainingState
from ...heads.parameters import select_torch_device
from ...heads.registry import CLASSIFICATION, MULTILABEL
from ...progress import report_step
from ..estimators.training_set import TrainingSet
from .halving import AfterEpoch, Candidate, Trial, train_best
from .linear_heads import Standardisation, fit_probe, read_weights, write_weights
from .network import TunedNetwork, compute_features

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .stored_maps import StoredMaps

MakeTrainer = Callable[
    [TunedNetwork, "LabelledMaps", "LabelledMaps | None", ModuleTrainingOptions],
    ModuleTrainer,
]
"""Returns what trains a network on rows, with rows to stop by and options."""
MIN_HELD_OUT_ROWS = 10
"""Fewer rows tell nothing."""
MAX_SHARE = 0.5
"""Of the rows that may be held out, for each of the two parts."""


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

    @property
    def known(self) -> NDArray[np.intp]:
        """Those to train on and to stop by: what a result depends on."""
        return np.concatenate([self.training, self.validation])


@dataclass(frozen=True)
class Comparison:
    """What training the layers came to, on rows that neither training nor its end depended on.

    Parameters
    ----------
    metric : {"accuracy", "R2"}
    frozen : float
        Score of a linear probe on frozen features, of the rows that the layers were trained on.
    frozen_layer : str
        Whose features these are, and how they are pooled: those that ``layer="auto"`` would take, of the other rows.
    tuned : float
        Score of the trained layers.
    gain, standard_error : float
        Weighted mean of the differences of the rows, and the standard error of this paired difference.
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

    def to_json(self) -> dict[str, Any]:
        """Return the scores, whether they are better, and what is said of them."""
        return {**asdict(self), "is_better": self.is_better, "text": str(self)}

    def __str__(self) -> str:
        frozen = f"{self.frozen:.3f} with frozen ones (of {self.frozen_layer})"
        scores = f"{self.metric} {self.tuned:.3f} with trained layers, {frozen}"
        difference = f"{self.gain:+.3f} ± {self.standard_error:.3f} on {self.n_rows} held-out rows"
        advice = "" if self.is_better else "; within the error: the frozen features are as good, and simpler"
        if self.gain < -2 * self.standard_error:
            advice = "; the frozen features are better"
        return f"{scores}\n{difference}{advice}"


@dataclass(frozen=True)
class Tuned:
    """A trained network: how it was trained, its head, the features of all rows, and after how many epochs it is."""

    candidate: Candidate
    network: TunedNetwork
    head: Any
    features: NDArray[np.float32]
    n_epochs: int
    records: list[EpochRecord]


def divide_rows(
    y: NDArray[Any],
    groups: NDArray[Any] | None,
    may_be_held_out: NDArray[np.bool_],
    *,
    shares: tuple[float, float],
    by_class: bool,
    seed: int,
) -> Division:
    """Divide rows into those to train on, to stop by and to score by, given the shares of the latter two.

    Rows of a group stay together, and every class has rows to train on. Views, and rows that are known already, must
    not be held out: they are trained on, unless they are of a group that is held out, and then in no part. Where few
    rows would be held out, none are.
    """
    own_groups = np.arange(len(y)) if groups is None else groups
    n_groups = len(np.unique(own_groups))
    rest = np.arange(len(y))
    held = []
    for number, share in enumerate(shares):
        candidates = rest[may_be_held_out[rest]]
        wanted = share * n_groups / max(1, len(np.unique(own_groups[candidates])))
        chosen = hold_out(y, groups, candidates, share=min(wanted, MAX_SHARE), by_class=by_class, seed=seed + number)
        if len(chosen) < MIN_HELD_OUT_ROWS:
            chosen = chosen[:0]
        rest = rest[~np.isin(own_groups[rest], own_groups[chosen])]
        held.append(chosen)
    validation, test = held
    return Division(rest, validation, test)


def hold_out(
    y: NDArray[Any],
    groups: NDArray[Any] | None,
    rows: NDArray[np.intp],
    *,
    share: float,
    by_class: bool,
    seed: int,
) -> NDArray[np.intp]:
    """Return about a share of some rows, that is held out, but for classes without others."""
    nothing = rows[:0]
    if share * len(rows) < MIN_HELD_OUT_ROWS:
        return nothing
    own_groups = rows if groups is None else groups[rows]
    given = None if groups is None else own_groups
    splits = draw_splits(y[rows], given, n_draws=1, test_size=share, random_state=seed, by_class=by_class)
    if not splits:
        return nothing
    ((left, held),) = splits
    if by_class:
        is_needed = ~np.isin(y[rows[held]], y[rows[left]])
        held = held[~np.isin(own_groups[held], own_groups[held[is_needed]])]
    return rows[held]


class Task:
    """What is learned: rows with their targets and weights, and which of them are held out.

    Parameters
    ----------
    name : {"classification", "multilabel", "regression"}
    y, weights, groups, is_original
        Targets of all rows, their weights, their groups, if any, and which of them are no views.
    division : Division
    """

    def __init__(
        self,
        name: str,
        y: NDArray[Any],
        weights: NDArray[np.float32],
        groups: NDArray[Any] | None,
        is_original: NDArray[np.bool_],
        division: Division,
    ) -> None:
        self.name = name
        self.y = y
        self.weights = weights
        self.groups = groups
        self.is_original = is_original
        self.division = division
        self.loss = {CLASSIFICATION: "classes", MULTILABEL: "labels"}.get(name, "values")
        self.metric = R2 if self.loss == "values" else ACCURACY
        self.targets = Standardisation(0.0, 1.0)
        if self.loss == "values":
            self.targets = Standardisation.of(y[division.training])

    def fit_probe(self, features: NDArray[np.float32], rows: NDArray[np.intp]) -> Any:
        """Return a linear probe of some rows."""
        groups = None if self.groups is None else self.groups[rows]
        given = TrainingSet(features[rows], self.y[rows], sample_weight=self.weights[rows], groups=groups)
        return fit_probe(given, self.name)

    def label(self, maps: StoredMaps, rows: NDArray[np.intp], classes: Any) -> LabelledMaps:
        """Return some rows to train on or to stop by."""
        y = self.y[rows]
        target: NDArray[Any]
        if self.loss == "classes":
            target = np.searchsorted(classes, y).astype(np.int64)
        else:
            target = ((y - self.targets.center) / self.targets.scale).astype(np.float32).reshape(len(y), -1)
        weight = self.weights[rows]
        if not weight.sum():
            raise InputError(f"the weights of {len(rows)} rows are all 0; expected some that count")
        return LabelledMaps(maps[rows].load(), target, (weight / weight.mean()).astype(np.float32))

    def label_parts(self, maps: StoredMaps, classes: Any) -> tuple[LabelledMaps, LabelledMaps | None]:
        """Return the rows to train on, and those of the classes trained on to stop by; None if there are none."""
        rows = self.division.validation
        if self.loss == "classes":
            rows = rows[np.isin(self.y[rows], classes)]
        validation = self.label(maps, rows, classes) if len(rows) else None
        return self.label(maps, self.division.training, classes), validation


@dataclass(frozen=True)
class Tuner:
    """A network above a cut, which is trained."""

    network: TunedNetwork
    trainer: ModuleTrainer

    def give_up(self) -> None:
        """Free the memory of the device."""
        self.network.cpu()


class Tuning:
    """Trains the layers above cuts on a task, each time from the weights of a linear probe.

    Parameters
    ----------
    networks, maps : mapping
        Of each cut, in order of execution.
    task : Task
    options : ModuleTrainingOptions
        The loss is that of the task unless it is a function.
    make_trainer : callable
    after_epoch : callable
    states : mapping
        Of earlier training to go on from, by candidate.
    """

    def __init__(
        self,
        networks: Mapping[str, TunedNetwork],
        maps: Mapping[str, StoredMaps],
        task: Task,
        options: ModuleTrainingOptions,
        *,
        make_trainer: MakeTrainer,
        after_epoch: AfterEpoch,
        states: Mapping[Candidate, TrainingState],
    ) -> None:
        self.networks = networks
        self.maps = maps
        self.task = task
        loss = options.loss if callable(options.loss) else task.loss
        self.options = replace(options, loss=loss)  # type: ignore[arg-type]
        self.make_trainer = make_trainer
        self.after_epoch = after_epoch
        self.states = states
        *_, uppermost = networks
        network = networks[uppermost].to(select_torch_device(options.device))
        self.frozen = compute_features(network, maps[uppermost])

    @cached_property
    def probe(self) -> Any:
        """The linear probe of the frozen features, of the rows to train on."""
        report_step("training a linear probe on the frozen features")
        return self.task.fit_probe(self.frozen, self.task.division.training)

    def choose(self, candidates: Sequence[Candidate]) -> tuple[Tuned, list[Trial]]:
        """Train each candidate as long as it is worth it, on the rows to train on; return the best, and all trials."""
        task = self.task
        if len(candidates) > 1 and not len(task.division.validation):
            raise InputError(
                "several cuts or learning rates cannot be compared, as too few rows could be held out "
                "(validation_fraction); name one with from_layer and learning_rate, or give more items"
            )
        probe = self.probe

        @lru_cache(maxsize=1)  # the candidates of a cut are prepared one after the other
        def label_parts(cut: str) -> tuple[LabelledMaps, LabelledMaps | None]:
            return task.label_parts(self.maps[cut], getattr(probe, "classes_", None))

        def prepare(candidate: Candidate) -> Tuner:
            return self.prepare(candidate, probe, task.division.training, *label_parts(candidate.layer), self.options)

        best, tuner, trials = train_best(candidates, prepare, self.options.epochs, self.after_epoch)
        return self.finish(best, tuner, probe), trials

    def train_on_all(self, chosen: Tuned) -> Tuned:
        """Train a candidate once more, on all rows, for as many epochs as were kept; the learning rate ends with them.

        If the layers were best before training, they are left as they are, and the head is a probe of all rows.
        """
        options = replace(self.options, epochs=max(1, chosen.n_epochs))
        candidate = chosen.candidate._replace(on_all_rows=True)
        tuned, _ = self.train_on_rows(candidate, self.fit_probe_of_all(), options, until=chosen.n_epochs)
        return tuned

    def run_pass(
        self, candidate: Candidate, head: Any = None, features: Standardisation | None = None
    ) -> tuple[Tuned, TrainingState]:
        """Train a candidate for one more epoch on all rows, at its learning rate; return the state after it as well.

        It goes on from its earlier state, or else from a linear head of standardised features, or a probe of all rows.
        """
        n_epochs = len(self.states[candidate].records) if candidate in self.states else 0
        options = replace(self.options, epochs=n_epochs + 1, warmup=0.0, cosine=False)
        probe = self.fit_probe_of_all() if head is None else head
        tuned, tuner = self.train_on_rows(candidate, probe, options, features=features)
        return tuned, tuner.trainer.save_state()

    def fit_probe_of_all(self) -> Any:
        """Return a linear probe of the frozen features, of all rows."""
        report_step("training a linear probe on all rows")
        return self.task.fit_probe(self.frozen, np.arange(len(self.task.y)))

    def train_on_rows(
        self,
        candidate: Candidate,
        probe: Any,
        options: ModuleTrainingOptions,
        until: int | None = None,
        features: Standardisation | None = None,
    ) -> tuple[Tuned, Tuner]:
        """Train a candidate on all rows, none of which says when to end; return what trained it as well."""
        task = self.task
        rows = np.arange(len(task.y))
        labelled = task.label(self.maps[candidate.layer], rows, getattr(probe, "classes_", None))
        tuner = self.prepare(candidate, probe, rows, labelled, None, options, features)
        for record in tuner.trainer.run(until=until):
            self.after_epoch(candidate, tuner.trainer, record)
        return self.finish(candidate, tuner, probe), tuner

    def prepare(
        self,
        candidate: Candidate,
        probe: Any,
        rows: NDArray[np.intp],
        training: LabelledMaps,
        validation: LabelledMaps | None,
        options: ModuleTrainingOptions,
        features: Standardisation | None = None,
    ) -> Tuner:
        """Return a network whose head is a probe of some rows, and its trainer, which goes on from its state.

        The features that enter the head are standardised as given, or by these rows.
        """
        task = self.task
        weight, bias = read_weights(probe, self.frozen.shape[1], task.name)
        network = deepcopy(self.networks[candidate.layer])
        center, scale = task.targets
        if features is None:
            features = Standardisation.of(self.frozen[rows])
        network.set_head(weight / np.reshape(scale, (-1, 1)), (bias - center) / scale, features)
        options = replace(options, learning_rate=candidate.learning_rate)
        trainer = self.make_trainer(network, training, validation, options)
        if candidate in self.states:
            trainer.restore_state(self.states[candidate])
        return Tuner(network, trainer)

    def finish(self, candidate: Candidate, tuner: Tuner, probe: Any) -> Tuned:
        """Take the best weights; the probe becomes the head."""
        task, network = self.task, tuner.network
        tuner.trainer.keep_best()
        features = compute_features(network, self.maps[candidate.layer])
        network.cpu()
        weight, bias = network.read_head()
        center, scale = task.targets
        weight, bias = weight * np.reshape(scale, (-1, 1)), bias * scale + center
        return Tuned(
            candidate=candidate,
            network=network,
            head=write_weights(deepcopy(probe), weight, bias, task.name),
            features=features,
            n_epochs=tuner.trainer.choose_epoch(),
            records=tuner.trainer.records,
        )

    def compare(self, tuned: Tuned, name: str, frozen: NDArray[np.float32]) -> Comparison | None:
        """Compare trained layers with frozen features on the rows that nothing was learned from; None without any.

        Both are of the same rows to train on.
        """
        task = self.task
        test = task.division.test
        if not len(test):
            return None
        baseline = task.fit_probe(frozen, task.division.training).predict(frozen[test])
        predicted = tuned.head.predict(tuned.features[test])
        y, weights = task.y[test], task.weights[test]
        gain, error = compare_predictions(task.metric, y, predicted, baseline, weights)
        return Comparison(
            metric=task.metric,
            frozen=compute_score(task.metric, y, baseline, weights),
            frozen_layer=name,
            tuned=compute_score(task.metric, y, predicted, weights),
            gain=gain,
            standard_error=error,
            n_rows=len(test),
        )
