"""The cut: which layers, how they are pooled, what the outputs are called, and what can be cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import LayerError
from .layer import Layer
from .pooling import AUTO, name_channel_axis, resolve_pooling
from .routes import Route

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ...models.backbone import Backbone
    from ..preprocess.preprocessor import Feed

COLUMN_FORMAT = 1


@dataclass(frozen=True)
class CutRequest:
    """The layers (names from :func:`topwork.layers`, or "last") and poolings that the user asks for.

    Each pooling is applied to each layer. With `normalize`, each item's vector is divided by its length (L2 norm).
    """

    layers: tuple[str, ...]
    pools: tuple[str, ...] = ("avg",)
    normalize: bool = False


@dataclass(frozen=True)
class Column:
    """One feature matrix: a layer, its pooling, and how it is computed and stored.

    Parameters
    ----------
    name : str
        The layer's name, followed by the pooling (``layer3.max``) where a layer has several.
    layer, pool : str
        The cut.
    width : int
        Number of features.
    normalize : bool
        Whether each vector has length 1.
    precision, dtype : str
        How the features are computed, and stored.
    format : int
        Version of what a column means.
    """

    name: str
    layer: str
    pool: str
    width: int
    normalize: bool = False
    precision: str = "fp32"
    dtype: str = "float32"
    format: int = COLUMN_FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return the column's fields, which are also its identity within a store."""
        return asdict(self)


class Cutter(Protocol):
    """A model whose layers are known: a traced PyTorch module, or an ONNX graph."""

    backbone: Any
    """The :class:`Backbone` that is cut."""

    def layers(self) -> list[Layer]:
        """List the legal cuts in order of execution, ``last`` at the end."""

    def describe(self, name: str) -> Layer:
        """Describe one layer, without shares of parameters and FLOPs; an unknown name raises a LayerError."""

    def find_own_pooling(self) -> str:
        """Return how the model pools before its classifier, "" if that cannot be determined."""

    def digest_computation(self) -> str:
        """Return the digest of what the model computes, "" if its weights' digest covers that."""

    def onnx_model(self, cut: Cut, route: Route, weights: Path) -> Any:
        """Return the ONNX model of a cut: the graph's inputs in, one pooled matrix for each output.

        Large weights are written to the path `weights`, or stay in a file of their own.
        """

    def reference(self, cut: Cut, feed: Feed) -> list[NDArray[np.float32]]:
        """Return what the untouched model yields for a batch, pooled: one matrix for each output of the cut."""


@dataclass(frozen=True)
class Cut:
    """Layers and poolings chosen on a model, in the order of the outputs."""

    cutter: Cutter
    chosen: tuple[tuple[Layer, str], ...]
    normalize: bool = False

    @property
    def backbone(self) -> Backbone:
        """The model that is cut."""
        backbone: Backbone = self.cutter.backbone
        return backbone

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        counts = Counter(layer.name for layer, _ in self.chosen)
        names = []
        for layer, pool in self.chosen:
            has_several = counts[layer.name] > 1
            names.append(f"{layer.name}.{pool}" if has_several else layer.name)
        return tuple(names)


def choose(cutter: Cutter, request: CutRequest) -> Cut:
    """Look up layers and poolings; a LayerError names those that do not exist or apply."""
    own = cutter.find_own_pooling() if AUTO in request.pools else ""
    spec = cutter.backbone.input_spec
    longest = spec.length_range[1] if spec.lengths_vary else 0
    chosen = []
    for name in request.layers:
        described = cutter.describe(name)
        if not described.shape:
            raise LayerError(
                f"{name!r} is one number for each item; expected features. Choose a layer before it; "
                "`topwork layers` lists them all."
            )
        for pool in request.pools:
            layer = name_channel_axis(described, pool)
            chosen.append((layer, resolve_pooling(layer, pool, own, longest)))
    return Cut(cutter, tuple(dict.fromkeys(chosen)), request.normalize)
