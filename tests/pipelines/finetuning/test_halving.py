"""The choice of a candidate: the worse half is given up each time, and an interruption changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from topwork.errors import DivergedError
from topwork.heads.module_training.trainer import EpochRecord
from topwork.pipelines.finetuning.halving import Candidate, train_best


@dataclass
class Contender:
    """What trains a candidate."""

    trainer: Trainer
    is_given_up: bool = False

    def give_up(self) -> None:
        self.is_given_up = True


@dataclass
class Trainer:
    """Yields losses that are known beforehand."""

    losses: list[float]
    records: list[EpochRecord] = field(default_factory=list)

    def run(self, until: int):
        while len(self.records) < until:
            epoch = len(self.records)
            if np.isnan(self.losses[epoch]):
                raise DivergedError
            self.records.append(EpochRecord(epoch + 1, 0.0, self.losses[epoch], -self.losses[epoch]))
            yield self.records[-1]

    def find_best(self, until: int) -> EpochRecord | None:
        return max(self.records[:until], key=lambda record: record.rank, default=None)


LOSSES = {
    Candidate("low", 0.1): [9.0, 8.0, *[0.0] * 6],  # would be best in the end, but is given up after two epochs
    Candidate("low", 0.2): [5.0, 4.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0],
    Candidate("high", 0.1): [4.0, 3.9, 3.8, 3.7, 3.6, 3.5, 3.4, 3.3],
    Candidate("high", 0.2): [9.0, 9.0, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0],
}
BEST = Candidate("low", 0.2)


def run(losses: dict[Candidate, list[float]], done: dict[Candidate, int] | None = None):
    """Return what is found, the candidates whose epochs were run, and the largest number that was held at once."""
    seen: list[Candidate] = []
    prepared: list[Contender] = []
    held = []

    def prepare(candidate: Candidate) -> Contender:
        contender = Contender(Trainer(losses[candidate]))
        list(contender.trainer.run((done or {}).get(candidate, 0)))
        prepared.append(contender)
        held.append(sum(not one.is_given_up for one in prepared))
        return contender

    best, contender, trials = train_best(list(losses), prepare, 8, lambda candidate, *_: seen.append(candidate))
    assert [one for one in prepared if not one.is_given_up] == [contender]
    return best, trials, seen, max(held)


def test_worse_half_is_given_up_as_epochs_double() -> None:
    best, trials, seen, held = run(LOSSES)
    assert best == BEST
    assert [(trial.layer, trial.learning_rate, trial.epochs, trial.validation_loss) for trial in trials] == [
        ("low", 0.1, 2, 8.0),
        ("low", 0.2, 8, 1.0),
        ("high", 0.1, 4, 3.7),
        ("high", 0.2, 2, 9.0),
    ]
    assert len(seen) == 16
    assert held == 3  # the two best so far, and the one that is tried


def test_resumed_training_is_judged_alike() -> None:
    best, trials, *_ = run(LOSSES)
    done = dict(zip(LOSSES, [2, 7, 4, 2], strict=True))  # killed before the last epoch
    again, resumed, seen, _ = run(LOSSES, done)
    assert (again, resumed) == (best, trials)
    assert seen == [BEST]


@pytest.mark.parametrize(("n_candidates", "epochs"), [(1, [8]), (2, [8, 4]), (3, [8, 4, 2])])
def test_fewer_candidates(n_candidates: int, epochs: list[int]) -> None:
    _, trials, *_ = run({Candidate("layer", float(number)): [float(number)] * 8 for number in range(n_candidates)})
    assert [trial.epochs for trial in trials] == epochs


def test_candidate_that_diverges_is_the_worst() -> None:
    diverging = {**LOSSES, Candidate("high", 0.1): [4.0, np.nan, *[0.0] * 6]}
    best, trials, *_ = run(diverging)
    assert best == Candidate("low", 0.1)
    assert trials[2].validation_loss is None


def test_last_candidate_may_diverge_after_good_epochs() -> None:
    best, trials, *_ = run({**LOSSES, BEST: [5.0, 4.0, 3.0, 2.0, np.nan, 0.0, 0.0, 0.0]})
    assert best == BEST
    assert trials[1].epochs == 4
    with pytest.raises(DivergedError):
        run({BEST: [np.nan]})
