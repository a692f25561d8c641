"""Layers that were trained before, from whose weights training goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BundleError, InputError
from ...identity import digest
from ..bundle.bundle_files import read_bundle, read_upper_weights
from ..bundle.manifest import FINETUNING

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainedLayers:
    """The layers between a cut and the last one that is kept, after training.

    Parameters
    ----------
    backbone : dict
        Identity of the backbone before it was trained.
    from_layer, to, pool : str
        The cut, the last layer that is kept, and its pooling.
    weights : mapping of ndarray
        By the names of the backbone's own parameters and buffers.
    learned_ids : ndarray, uint64, optional
        Hashes of the ids of the items that training, or its end, depended on; None if they are not known.
    """

    backbone: dict[str, Any]
    from_layer: str
    to: str
    pool: str
    weights: Mapping[str, NDArray[Any]]
    learned_ids: NDArray[Any] | None

    def digest_weights(self) -> str:
        """Return the SHA-256 of the weights and their names."""
        found = hashlib.sha256()
        for name, array in sorted(self.weights.items()):
            found.update(f"{name}|{array.dtype}|{array.shape}|".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    @classmethod
    def read(cls, bundle: Path) -> TrainedLayers:
        """Read the layers of a bundle; raise a BundleError if it has none."""
        contents = read_bundle(bundle)
        weights = read_upper_weights(bundle, contents)
        if weights is None:
            raise BundleError(
                f"{bundle} has no layers that were trained: its head was trained on frozen features. Expected a bundle "
                "that `topwork finetune` wrote"
            )
        recorded = contents.properties[FINETUNING]
        return cls(
            recorded["backbone"], recorded["from"], recorded["to"], recorded["pool"], weights, contents.learned_ids
        )

    def require_backbone(self, identity: dict[str, Any]) -> None:
        """Raise an InputError if these layers are of another backbone."""
        if digest(self.backbone) != digest(identity):
            raise InputError(
                f"the layers to start from are of {self.backbone.get('architecture')!r} with other weights or another "
                f"preparation than those of {identity.get('architecture')!r}; expected those of the same backbone"
            )

    def require_end(self, to: str) -> None:
        """Raise an InputError if these layers end at another one than `to`."""
        if self.to != to:
            raise InputError(f"the layers to start from end at {self.to!r}, not at {to!r}; expected the same (to)")
