"""Training of the layers above a cut: a linear probe first, then all of it from the probe's weights (LP-FT)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...heads.folds import draw_splits
from ...heads.metrics import ACCURACY, compare_predictions, compute_score
from ...heads.module_training.options import ModuleTrainingOptions
from ...heads.module_training.trainer import EpochRecord, ModuleTrainer
from ...heads.registry import CLASSIFICATION, MULTILABEL
from ...progress import report_step
from .linear_heads import fit_probe, read_weights, write_weights
from .network import TunedNetwork, compute_features

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
        Score of a linear probe on the frozen features, trained on all other rows.
    tuned : float
        Score of the trained layers.
    gain, standard_error : float
        Mean difference over the rows, and the standard error of this paired difference.
    n_rows : int
    """

    metric: str
    frozen: float
    tuned: float
    gain: float
    standard_error: float
    n_rows: int

    @property
    def is_better(self) -> bool:
        """Whether the trained layers are better by more than twice the standard error."""
        return self.gain > 2 * self.standard_error

    def __str__(self) -> str:
        scores = f"{self.metric} {self.tuned:.3f} with trained layers, {self.frozen:.3f} with frozen ones"
        difference = f"{self.gain:+.3f} ± {self.standard_error:.3f} on {self.n_rows} held-out rows"
        advice = "" if self.is_better else "; within the error: the frozen features are as good, and simpler"
        return f"{scores}\n{difference}{advice}"


@dataclass(frozen=True)
class Tuning:
    """A trained network: its head, the features of all rows, and how training went."""

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


class Tuner:
    """Trains a network on labelled maps.

    Parameters
    ----------
    network : TunedNetwork
        Its head is set to a linear probe first.
    maps, y, weights
        Maps of all rows, their targets, and their weights.
    task : {"classification", "multilabel", "regression"}
    division : Division
    options : ModuleTrainingOptions
        The loss is that of the task unless it is a function.
    """

    def __init__(
        self,
        network: TunedNetwork,
        maps: StoredMaps,
        y: NDArray[Any],
        weights: NDArray[np.float32],
        *,
        task: str,
        division: Division,
        options: ModuleTrainingOptions,
    ) -> None:
        self.network = network
        self.maps = maps
        self.y = y
        self.weights = weights
        self.task = task
        self.division = division
        loss = {CLASSIFICATION: "classes", MULTILABEL: "labels"}.get(task, "values")
        self.options = options if callable(options.loss) else replace(options, loss=loss)  # type: ignore[arg-type]
        self.center = y.mean(axis=0) if loss == "values" else 0.0
        self.scale = np.where(y.std(axis=0) > 0, y.std(axis=0), 1.0) if loss == "values" else 1.0

    def run(self, after_epoch: Callable[[ModuleTrainer, EpochRecord], None], state: Any = None) -> Tuning:
        """Train, and compare with the frozen features; `state` is that of earlier training to go on from."""
        report_step("training a linear probe on the frozen features")
        frozen = compute_features(self.network, self.maps)
        start = self.fit_probe(frozen, self.division.training)
        self.start_from(start, frozen.shape[1])
        trainer = ModuleTrainer(self.network, self.take(self.division.training), self.take_validation(), self.options)
        if state is not None:
            trainer.restore_state(state)
        for record in trainer.run():
            report_step(f"training the layers: epoch {record.epoch} of {self.options.epochs}, loss {record.loss:.3f}")
            after_epoch(trainer, record)
        trainer.keep_best()
        self.network.cpu()
        features = compute_features(self.network, self.maps)
        head = self.write_head(start)
        return Tuning(self.network, head, features, trainer.records, self.compare(head, features, frozen))

    def fit_probe(self, features: NDArray[np.float32], rows: NDArray[np.intp]) -> Any:
        """Return a linear probe of some rows."""
        return fit_probe(features[rows], self.y[rows], self.weights[rows], self.task)

    def start_from(self, probe: Any, n_features: int) -> None:
        """Set the head of the network to a probe."""
        weight, bias = read_weights(probe, n_features, self.task)
        self.classes: Any = getattr(probe, "classes_", None)
        self.network.set_head(weight / np.reshape(self.scale, (-1, 1)), (bias - self.center) / self.scale)

    def write_head(self, probe: Any) -> Any:
        """Return the head of the network as an estimator."""
        weight = self.network.head.weight.detach().numpy() * np.reshape(self.scale, (-1, 1))
        bias = self.network.head.bias.detach().numpy() * self.scale + self.center
        return write_weights(probe, weight, bias, self.task)

    def take(self, rows: NDArray[np.intp]) -> LabelledMaps:
        """Return some rows to train on or to stop by."""
        y = self.y[rows]
        target: NDArray[Any]
        if self.task == CLASSIFICATION:
            target = np.searchsorted(self.classes, y).astype(np.int64)
        else:
            target = ((y - self.center) / self.scale).astype(np.float32).reshape(len(y), -1)
        weight = self.weights[rows]
        return LabelledMaps(self.maps[rows].load(), target, (weight / weight.mean()).astype(np.float32))

    def take_validation(self) -> LabelledMaps | None:
        """Return the rows to stop by, of classes that are trained on; None if there are none."""
        rows = self.division.validation
        if self.task == CLASSIFICATION:
            rows = rows[np.isin(self.y[rows], self.classes)]
        return self.take(rows) if len(rows) else None

    def compare(self, head: Any, features: NDArray[np.float32], frozen: NDArray[np.float32]) -> Comparison | None:
        """Compare the trained layers with the frozen ones on the rows that nothing was learned from, if any."""
        test = self.division.test
        if not len(test):
            return None
        others = np.setdiff1d(np.arange(len(self.y)), test)
        metric = "R2" if self.task not in (CLASSIFICATION, MULTILABEL) else ACCURACY
        tuned = head.predict(features[test])
        baseline = self.fit_probe(frozen, others).predict(frozen[test])
        gain, error = compare_predictions(metric, self.y[test], tuned, baseline)
        return Comparison(
            metric=metric,
            frozen=compute_score(metric, self.y[test], baseline),
            tuned=compute_score(metric, self.y[test], tuned),
            gain=gain,
            standard_error=error,
            n_rows=len(test),
        )
