"""The cut: which layers, how they are pooled, and what the outputs are called."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .layer import Layer
from .pooling import AUTO, resolve_pooling

if TYPE_CHECKING:
    from ...models.backbone import Backbone
    from .cutting import Cutter

COLUMN_FORMAT = 1


@dataclass(frozen=True)
class CutRequest:
    """What the user asks for.

    Parameters
    ----------
    layers : tuple of str
        Names from :func:`topwork.layers`, or "last".
    pools : tuple of str
        Each is applied to each layer.
    normalize : bool
        Divide each item's vector by its length (L2 norm).
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
        The layer's name; with the pooling behind it (``layer3.max``) where a layer has several.
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


@dataclass(frozen=True)
class Cut:
    """Layers and poolings chosen on a network, in the order of the outputs."""

    cutter: Cutter
    chosen: tuple[tuple[Layer, str], ...]
    normalize: bool = False

    @property
    def backbone(self) -> Backbone:
        """The network that is cut."""
        backbone: Backbone = self.cutter.backbone
        return backbone

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        counts = [layer.name for layer, _ in self.chosen]
        return tuple(
            layer.name if counts.count(layer.name) == 1 else f"{layer.name}.{pool}" for layer, pool in self.chosen
        )


def choose(cutter: Cutter, request: CutRequest) -> Cut:
    """Look up layers and poolings.

    Raises
    ------
    LayerError
        If a layer does not exist or a pooling does not apply.
    """
    chosen: dict[tuple[Layer, str], None] = {}
    own = cutter.own_pooling() if AUTO in request.pools else ""
    for name in request.layers:
        layer = cutter.describe(name)
        for pool in request.pools:
            chosen[layer, resolve_pooling(layer, pool, own)] = None
    return Cut(cutter, tuple(chosen), request.normalize)
