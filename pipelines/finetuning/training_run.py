"""What one call of ``fit`` or ``partial_fit`` works with, and what later calls go on from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...heads.module_training.trainer import TrainingState
    from ...models.backbone import TorchBackbone
    from .linear_heads import Standardisation
    from .network import TunedNetwork
    from .trained_layers import TrainedLayers

FIXED_PARAMETERS = ("from_layer", "to", "pool", "optimizer", "train_batch_norm")
"""Parameters that no pass may change."""


@dataclass(frozen=True)
class Passes:
    """What training in single passes goes on from.

    Parameters
    ----------
    head : estimator
        The linear head.
    targets, features : Standardisation
        Of the values that are learned, and of the features that enter the head.
    state : TrainingState or None
        After the last pass; None if ``fit`` came before.
    parameters : dict
        Those that no pass may change.
    ids, labels : ndarray
        Of all items so far.
    """

    head: Any
    targets: Standardisation
    features: Standardisation
    state: TrainingState | None
    parameters: dict[str, Any]
    ids: NDArray[Any]
    labels: NDArray[Any]

    def add_items(self, ids: NDArray[Any], labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the ids and labels of these and further items, each once, with the label that it had last."""
        last = dict(zip(self.ids.tolist(), self.labels.tolist(), strict=True))
        last.update(zip(ids.tolist(), labels.tolist(), strict=True))
        return np.fromiter(last, object, len(last)), np.fromiter(last.values(), object, len(last))

    def require_same_parameters(self, parameters: dict[str, Any]) -> None:
        """Raise an InputError if a parameter has changed that must not."""
        for name in FIXED_PARAMETERS:
            before, now = self.parameters[name], parameters[name]
            if str(before) != str(now):
                raise InputError(f"{name} is {now!r}, and was {before!r} before; call fit to start anew")


@dataclass
class TrainingRun:
    """What one call of ``fit`` or ``partial_fit`` works with.

    Parameters
    ----------
    is_pass : bool
        Whether it is a call of ``partial_fit``.
    earlier : Passes or None
        What a pass goes on from; None for a first one.
    classes : array-like or None
        The classes that ``partial_fit`` was given.
    start : TrainedLayers or None
        The layers from whose weights training goes on.
    backbone : TorchBackbone
    networks : dict of str to TunedNetwork
        What lies above each cut, in order of execution.
    map_folder : Path
        Of the store of maps.
    learned : ndarray
        Positions of the rows that the score in training is of.
    targets : Standardisation
        Of the values that are learned.
    state : TrainingState or None
        After a pass.
    checked : tuple
        Ids of a few items, and their features from maps.
    """

    is_pass: bool = False
    earlier: Passes | None = None
    classes: Any = None
    start: TrainedLayers | None = None
    backbone: TorchBackbone = field(init=False)
    networks: dict[str, TunedNetwork] = field(init=False)
    map_folder: Path = field(init=False)
    learned: NDArray[np.intp] = field(init=False)
    targets: Standardisation = field(init=False)
    state: TrainingState | None = field(init=False)
    checked: tuple[list[Any], NDArray[np.float32]] = field(init=False)
