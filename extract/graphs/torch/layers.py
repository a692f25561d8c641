"""The legal cuts of a traced PyTorch module, and where their channels are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..dataflow import AxisReader, add_costs, find_ancestors, find_channel_axis, find_dominators, measure_layers
from ..layer import LAST, Layer, make_layer
from .flow import count_axes, example_tensor, measure_cost
from .tokens import count_prefix_tokens
from .trace import Trace, find_node

if TYPE_CHECKING:
    from torch.fx import Node

CHANNELS_FIRST = ("conv", "batch_norm", "group_norm", "pool")
CHANNELS_LAST = ("linear", "layer_norm", "addmm")
PERMUTE = "aten.permute.default"
VIEW = "aten.view.default"


def list_layers(traced: Trace) -> list[Layer]:
    """List the legal cuts of a traced module, in order of execution, ``last`` at the end."""
    names = [name for name in traced.values if name]
    layers = [(describe_layer(traced, name), find_node(traced, name)) for name in (*names, LAST)]
    costs = {node: measure_cost(node) for node in traced.module.graph.nodes}
    total = add_costs(costs[node] for node in find_ancestors(traced.values.values()))
    dominators = find_dominators(traced.live, traced.values[""])
    return measure_layers(layers, costs, total=total, dominators=dominators)


def describe_layer(traced: Trace, name: str) -> Layer:
    """Describe one layer, without the shares of parameters and FLOPs."""
    node = find_node(traced, name)
    sizes = example_tensor(node).shape[1:]
    return make_layer(
        name,
        tuple(size if isinstance(size, int) else None for size in sizes),
        find_channel_axis=lambda: find_channel_axis(node, tuple(sizes), axis_reader(count_axes(node))),
        count_prefix_tokens=lambda: count_prefix_tokens(traced, node),
    )


def axis_reader(rank: int) -> AxisReader:
    """Return how channels are read from the nodes of a trace whose values have so many axes."""
    return AxisReader(
        list_sources=lambda node: [source for source in node.all_input_nodes if count_axes(source) == rank],
        read_channel_axis=lambda node: read_channel_axis(node, rank),
        read_permutation=read_permutation,
    )


def read_channel_axis(node: Node, rank: int) -> int | None:
    """Return the channel axis of a value with a batch axis, None if the operation that made it defines none."""
    target = str(node.target)
    if any(word in target for word in CHANNELS_LAST):
        return rank - 1
    if any(word in target for word in CHANNELS_FIRST):
        return 1
    if rank == 4 and target == VIEW:
        # Tokens that are put back on their grid keep their channels last.
        widths = [example_tensor(source).shape[-1] for source in node.all_input_nodes if count_axes(source) == 3]
        if widths == [example_tensor(node).shape[-1]]:
            return 3
    return None


def read_permutation(node: Node) -> list[int] | None:
    """Return the axes that a node permutes, None if it is no permutation."""
    if str(node.target) != PERMUTE:
        return None
    axes: Any = node.args[1]
    return list(axes)
