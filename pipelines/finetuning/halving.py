"""Which of several cuts to train above: successive halving over the epochs.

All are trained for a few epochs; each time the number of epochs doubles, the worse half is given up (Jamieson and
Talwalkar 2016, https://arxiv.org/abs/1502.07943). With four cuts, this costs twice the epochs of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from ...errors import DivergedError, InputError

if TYPE_CHECKING:
    from ...heads.module_training.trainer import EpochRecord, ModuleTrainer

AfterEpoch = Callable[[str, "ModuleTrainer", "EpochRecord"], None]
"""Is called with the cut, the trainer and the record after each epoch."""


class Contender(Protocol):
    """What is trained above a cut."""

    trainer: ModuleTrainer

    def give_up(self) -> None:
        """Free what only training needs."""


AnyContender = TypeVar("AnyContender", bound=Contender)


@dataclass(frozen=True)
class CutTrial:
    """How far training above a cut went.

    Parameters
    ----------
    layer : str
        The cut.
    epochs : int
        Epochs that were run before it was given up, or ended.
    validation_loss : float or None
        The lowest loss of validation rows in these epochs; None without such rows, or if training diverged.
    """

    layer: str
    epochs: int
    validation_loss: float | None


def train_best(contenders: dict[str, AnyContender], epochs: int, after_epoch: AfterEpoch) -> tuple[str, list[CutTrial]]:
    """Train above each cut, giving up the worse half at each halving; return the cut that is left, and all trials.

    Those that are given up are removed from `contenders`. Training that was resumed is judged by the epochs
    that it is judged by without an interruption. One that diverges is the worst, unless it is the only one. Raise an
    InputError if several cuts cannot be compared.
    """
    if len(contenders) > 1 and any(contender.trainer.validation is None for contender in contenders.values()):
        raise InputError(
            "several cuts cannot be compared, as too few rows could be held out (validation_fraction); name one with "
            "from_layer, or give more items"
        )
    trials = {cut: CutTrial(cut, 0, None) for cut in contenders}
    for halving in range((len(contenders) - 1).bit_length(), -1, -1):
        until = math.ceil(epochs / 2**halving)
        for cut, contender in contenders.items():
            trials[cut] = train_until(cut, contender.trainer, until, after_epoch, is_last=len(contenders) == 1)
        if halving:
            ranked = sorted(contenders, key=lambda cut: rank(trials[cut]))
            for cut in ranked[math.ceil(len(ranked) / 2) :]:
                contenders.pop(cut).give_up()
    (best,) = contenders
    return best, list(trials.values())


def train_until(cut: str, trainer: ModuleTrainer, until: int, after_epoch: AfterEpoch, *, is_last: bool) -> CutTrial:
    """Train above a cut until an epoch, and return how far it went."""
    try:
        for record in trainer.run(until):
            after_epoch(cut, trainer, record)
    except DivergedError:
        if is_last:
            raise
        return CutTrial(cut, len(trainer.records), None)
    loss = trainer.find_best_loss(until)
    return CutTrial(cut, min(len(trainer.records), until), loss if math.isfinite(loss) else None)


def rank(trial: CutTrial) -> float:
    """Return the loss of a trial, by which it is compared with others."""
    return math.inf if trial.validation_loss is None else trial.validation_loss
