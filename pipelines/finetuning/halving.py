"""Which cut to train above, and how fast: successive halving over the epochs.

All candidates are trained for a few epochs; each time the number of epochs doubles, the worse half is given up
(Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943). With four candidates, this costs twice the epochs of
one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from ...errors import DivergedError

if TYPE_CHECKING:
    from ...heads.module_training.trainer import EpochRecord, ModuleTrainer


class Candidate(NamedTuple):
    """A way to train: the cut above which layers are trained, the largest learning rate, and on which rows."""

    layer: str
    learning_rate: float
    on_all_rows: bool = False


AfterEpoch = Callable[[Candidate, "ModuleTrainer", "EpochRecord"], None]
"""Is called with the candidate, the trainer and the record after each epoch."""


class Contender(Protocol):
    """What trains a candidate."""

    @property
    def trainer(self) -> ModuleTrainer:
        """What trains it."""

    def give_up(self) -> None:
        """Free what only training needs."""


AnyContender = TypeVar("AnyContender", bound=Contender)


@dataclass(frozen=True)
class Trial:
    """How far training a candidate went.

    Parameters
    ----------
    layer : str
        The cut.
    learning_rate : float
        The largest one, of the head.
    epochs : int
        Epochs that were run before it was given up, or ended.
    validation_score, validation_loss : float or None
        Of validation rows after the best of these epochs: the accuracy, or of values the loss with its sign turned; and
        the loss. None without such rows, or if training diverged.
    """

    layer: str
    learning_rate: float
    epochs: int
    validation_score: float | None = None
    validation_loss: float | None = None


def train_best(
    candidates: Sequence[Candidate],
    prepare: Callable[[Candidate], AnyContender],
    epochs: int,
    after_epoch: AfterEpoch,
) -> tuple[Candidate, AnyContender, list[Trial]]:
    """Train all candidates, giving up the worse half at each halving; return the one that is left, and all trials.

    Each is prepared when its turn comes, and given up as soon as enough are better. Training that was resumed is judged
    by the epochs that it is judged by without an interruption. One that diverges is the worst; raise a DivergedError if
    the last one does before an epoch has ended well.
    """
    trials: dict[Candidate, Trial] = {}
    contenders: dict[Candidate, AnyContender] = {}
    left = list(candidates)
    for halving in range((len(left) - 1).bit_length(), -1, -1):
        until = math.ceil(epochs / 2**halving)
        n_kept = math.ceil(len(left) / 2)
        ranked: list[Candidate] = []
        for candidate in left:
            if candidate not in contenders:
                contenders[candidate] = prepare(candidate)
            trainer = contenders[candidate].trainer
            trials[candidate] = train_until(candidate, trainer, until, after_epoch, is_last=len(left) == 1)
            ranked = sorted([*ranked, candidate], key=lambda one: rank(trials[one]))
            for worst in ranked[n_kept:]:
                contenders.pop(worst).give_up()
            ranked = ranked[:n_kept]
        left = [candidate for candidate in left if candidate in ranked]
    (best,) = left
    return best, contenders[best], list(trials.values())


def train_until(
    candidate: Candidate, trainer: ModuleTrainer, until: int, after_epoch: AfterEpoch, *, is_last: bool
) -> Trial:
    """Train a candidate until an epoch, and return how far it went."""
    try:
        for record in trainer.run(until):
            after_epoch(candidate, trainer, record)
    except DivergedError:
        if is_last and trainer.find_best(until) is None:
            raise
        return Trial(candidate.layer, candidate.learning_rate, len(trainer.records))
    best = trainer.find_best(until)
    assert best is not None
    n_epochs = min(len(trainer.records), until)
    return Trial(candidate.layer, candidate.learning_rate, n_epochs, best.validation_score, best.validation_loss)


def rank(trial: Trial) -> tuple[float, float]:
    """Return what is smaller for better trials: the score with its sign turned, and of equal ones the loss."""
    if trial.validation_score is None or trial.validation_loss is None:
        return math.inf, math.inf
    return -trial.validation_score, trial.validation_loss
