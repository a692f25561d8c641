"""Which of several cuts to train above: successive halving over the epochs.

All are trained for a few epochs; each time the number of epochs doubles, the worse half is given up (Jamieson and
Talwalkar 2016, https://arxiv.org/abs/1502.07943). With four cuts, this costs twice the epochs of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import InputError

if TYPE_CHECKING:
    from ...heads.module_training.trainer import EpochRecord, ModuleTrainer

AfterEpoch = Callable[[str, "ModuleTrainer", "EpochRecord"], None]
"""Is called with the cut, the trainer and the record after each epoch."""


@dataclass(frozen=True)
class CutTrial:
    """How far training above a cut went.

    Parameters
    ----------
    layer : str
        The cut.
    epochs : int
        Epochs that were run before it was given up, or ended.
    validation_loss : float
        The lowest loss of validation rows in these epochs; infinite without such rows.
    """

    layer: str
    epochs: int
    validation_loss: float


def train_best(
    trainers: Mapping[str, ModuleTrainer], epochs: int, after_epoch: AfterEpoch
) -> tuple[str, list[CutTrial]]:
    """Train above each cut, giving up the worse half at each halving; return the cut that is left, and all trials.

    Training that was resumed is judged by the epochs that it is judged by without an interruption. Raise an InputError
    if several cuts cannot be compared.
    """
    if len(trainers) > 1 and any(trainer.validation is None for trainer in trainers.values()):
        raise InputError(
            "several cuts cannot be compared, as too few rows could be held out (validation_fraction); name one with "
            "from_layer, or give more items"
        )
    remaining = list(trainers)
    trials = {cut: CutTrial(cut, 0, math.inf) for cut in trainers}
    for halving in range((len(trainers) - 1).bit_length(), -1, -1):
        until = math.ceil(epochs / 2**halving)
        for cut in remaining:
            trainer = trainers[cut]
            for record in trainer.run(until):
                after_epoch(cut, trainer, record)
            done = min(len(trainer.records), until)
            trials[cut] = CutTrial(cut, done, trainer.find_best_loss(until))
        if halving:
            remaining.sort(key=lambda cut: trials[cut].validation_loss)
            del remaining[math.ceil(len(remaining) / 2) :]
    (best,) = remaining
    return best, list(trials.values())
