"""The cut: one module from decoded images to the pooled features of the chosen layers, and nothing above them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import LayerError
from .flow import ancestors
from .layers import Layer, describe
from .pooling import AUTO, pooling_module, resolve_pooling
from .tokens import own_pooling
from .trace import Trace, node_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn
    from torch.fx import GraphModule, Node

    from ..models.backbone import Backbone

COLUMN_FORMAT = 1


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
    precision, dtype : str
        How the features are computed, and stored.
    format : int
        Version of what a column means.
    """

    name: str
    layer: str
    pool: str
    width: int
    precision: str = "fp32"
    dtype: str = "float32"
    format: int = COLUMN_FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return the column's fields, which are also its identity within a store."""
        return asdict(self)


@dataclass(frozen=True)
class Cut:
    """Layers and poolings chosen on a traced backbone, in the order of the outputs."""

    backbone: Backbone
    traced: Trace
    chosen: tuple[tuple[Layer, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        counts = [layer.name for layer, _ in self.chosen]
        return tuple(
            layer.name if counts.count(layer.name) == 1 else f"{layer.name}.{pool}" for layer, pool in self.chosen
        )


def choose(backbone: Backbone, traced: Trace, layer_names: Sequence[str], pools: Sequence[str]) -> Cut:
    """Look up layers and poolings.

    Raises
    ------
    LayerError
        If a layer does not exist, yields nothing that can be pooled, or a pooling does not apply.
    """
    chosen: dict[tuple[Layer, str], None] = {}
    own = own_pooling(traced, backbone) if AUTO in pools else ""
    for name in layer_names:
        layer = describe(traced, backbone, name)
        if layer is None:
            raise LayerError(
                f"layer {name!r} yields a value with too many axes to pool; choose another from `topwork layers`"
            )
        for pool in pools:
            chosen[layer, resolve_pooling(layer, pool, own)] = None
    return Cut(backbone, traced, tuple(chosen))


def cut_network(cut: Cut) -> nn.Module:
    """Return a module that takes uint8 images ``(batch, height, width, 3)`` and returns one matrix per output."""
    import torch

    spec = cut.backbone.input_spec
    body = _only(cut.traced.module, [node_of(cut.traced, cut.backbone, layer.name) for layer, _ in cut.chosen])
    poolings = torch.nn.ModuleList(pooling_module(layer, pool) for layer, pool in cut.chosen)

    class CutNetwork(torch.nn.Module):
        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.body, self.poolings = body, poolings
            self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1))

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            x = image.permute(0, 3, 1, 2).contiguous().float()  # (batch, height, width, 3) -> (batch, 3, height, width)
            values = self.body((x / 255 - self.mean) / self.std)
            return tuple(pooling(value) for pooling, value in zip(self.poolings, values, strict=True))

    return CutNetwork().eval()


def _only(module: GraphModule, outputs: list[Node]) -> GraphModule:
    """Return a graph of only what the outputs need; parameters above the last cut are not in it."""
    import torch

    needed = ancestors(outputs)
    graph, copies = torch.fx.Graph(), dict[torch.fx.Node, torch.fx.Node]()
    for node in module.graph.nodes:
        if node in needed or node.op == "placeholder":
            copies[node] = graph.node_copy(node, lambda n: copies[n])
    graph.output(tuple(copies[node] for node in outputs))
    return torch.fx.GraphModule(module, graph)
