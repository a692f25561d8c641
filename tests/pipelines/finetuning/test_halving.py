"""The choice of a cut: the worse half is given up each time, and an interruption changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from topwork.errors import DivergedError, InputError
from topwork.heads.module_training.trainer import EpochRecord
from topwork.pipelines.finetuning.halving import train_best


@dataclass
class Contender:
    """What is trained above a cut."""

    trainer: Trainer

    def give_up(self) -> None:
        self.trainer.records.clear()


@dataclass
class Trainer:
    """Yields losses that are known beforehand."""

    losses: list[float]
    records: list[EpochRecord] = field(default_factory=list)
    validation: object = "rows"

    def run(self, until: int):
        while len(self.records) < until:
            epoch = len(self.records)
            if np.isnan(self.losses[epoch]):
                raise DivergedError
            self.records.append(EpochRecord(epoch + 1, 0.0, self.losses[epoch]))
            yield self.records[-1]

    def find_best_loss(self, until: int) -> float:
        return min(record.validation_loss for record in self.records[:until])


LOSSES = {
    "low": [9.0, 8.0, *[0.0] * 6],  # would be best in the end, but is given up after two epochs
    "middle": [5.0, 4.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0],
    "high": [4.0, 3.9, 3.8, 3.7, 3.6, 3.5, 3.4, 3.3],
    "top": [9.0, 9.0, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0],
}


def test_worse_half_is_given_up_as_epochs_double() -> None:
    seen = []
    contenders = {cut: Contender(Trainer(losses)) for cut, losses in LOSSES.items()}
    best, trials = train_best(contenders, 8, lambda cut, trainer, record: seen.append(cut))
    assert best == "middle"
    assert [(trial.layer, trial.epochs, trial.validation_loss) for trial in trials] == [
        ("low", 2, 8.0),
        ("middle", 8, 1.0),
        ("high", 4, 3.7),
        ("top", 2, 9.0),
    ]
    assert len(seen) == 16


def test_resumed_training_is_judged_alike() -> None:
    whole = {cut: Contender(Trainer(losses)) for cut, losses in LOSSES.items()}
    done = {"low": 2, "middle": 7, "high": 4, "top": 2}  # killed before the last epoch
    resumed = {cut: Contender(Trainer(losses)) for cut, losses in LOSSES.items()}
    for cut, epochs in done.items():
        list(resumed[cut].trainer.run(epochs))
    seen = []
    assert train_best(resumed, 8, lambda cut, trainer, record: seen.append(cut)) == train_best(
        whole, 8, lambda *_: None
    )
    assert seen == ["middle"]


@pytest.mark.parametrize(("n_cuts", "epochs"), [(1, [8]), (2, [8, 4]), (3, [8, 4, 2])])
def test_fewer_cuts(n_cuts: int, epochs: list[int]) -> None:
    contenders = {f"cut {number}": Contender(Trainer([float(number)] * 8)) for number in range(n_cuts)}
    _, trials = train_best(contenders, 8, lambda *_: None)
    assert [trial.epochs for trial in trials] == epochs


def test_cuts_cannot_be_compared_without_validation_rows() -> None:
    contenders = {cut: Contender(Trainer(losses, validation=None)) for cut, losses in LOSSES.items()}
    with pytest.raises(InputError, match="too few rows could be held out"):
        train_best(contenders, 8, lambda *_: None)


def test_cut_that_diverges_is_the_worst() -> None:
    contenders = {cut: Contender(Trainer(losses)) for cut, losses in LOSSES.items()}
    contenders["high"].trainer.losses = [4.0, np.nan, *[0.0] * 6]
    best, trials = train_best(contenders, 8, lambda *_: None)
    assert best == "low"
    assert trials[2].validation_loss is None
    only = {"high": Contender(Trainer([np.nan]))}
    with pytest.raises(DivergedError):
        train_best(only, 8, lambda *_: None)
