"""The PyTorch module of a cut: preprocessing, what lies below the cut, pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dataflow import find_ancestors
from ..pooling import pool_layers
from .inputs import entry_module, token_mask
from .trace import Trace, find_node

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import GraphModule, Node

    from ..cut import Cut


def cut_module(traced: Trace, cut: Cut) -> nn.Module:
    """Return a module that takes the graph's inputs and returns one matrix for each output."""
    from torch import nn

    backbone = traced.backbone
    body = prune_module(traced.module, [find_node(traced, layer.name) for layer, _ in cut.chosen])
    entry = entry_module(backbone.input_spec)

    class CutModule(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.entry = entry
            self.body = body

        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            positional, named = backbone.arguments_of(self.entry(*inputs))
            values = self.body(*positional, **named)
            mask = token_mask(backbone.input_spec, inputs)
            return tuple(pool_layers(values, cut.chosen, mask=mask, normalize=cut.normalize))

    return CutModule().eval()


def prune_module(module: GraphModule, outputs: list[Node]) -> GraphModule:
    """Return a module that computes some nodes of a graph, without operations and parameters that they do not need."""
    import torch

    needed = find_ancestors(outputs)
    graph = torch.fx.Graph()
    copies: dict[Node, Node] = {}
    for node in module.graph.nodes:
        if node in needed or node.op == "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in outputs))
    return torch.fx.GraphModule(module, graph)
