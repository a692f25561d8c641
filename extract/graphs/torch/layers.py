"""The legal cuts of a traced PyTorch module, and where their channels are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..dataflow import (
    AxisReader,
    add_costs,
    find_ancestors,
    find_channel_axis,
    find_dominators,
    match_axes,
    measure_layers,
)
from ..layer import LAST, Layer, guess_channel_axis, make_layer
from .flow import count_axes, example_shape, example_tensor, measure_cost
from .tokens import count_prefix_tokens
from .trace import Trace, find_classifier, find_node
from .varying_axes import find_fixed_axis

if TYPE_CHECKING:
    from torch.fx import Node

CHANNELS_FIRST = ("conv", "batch_norm", "group_norm", "pool")
CHANNELS_LAST = ("linear", "layer_norm", "addmm")
PERMUTE = "aten.permute.default"
TRANSPOSITIONS = ("aten.transpose.int", "aten.swapaxes.default", "aten.swapdims.default")
VIEWS = ("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints")


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
        find_channel_axis=lambda: find_channels(traced, name, node, tuple(sizes)),
        count_prefix_tokens=lambda: count_prefix_tokens(traced, node),
        is_padded=traced.backbone.input_spec.pads_batches,
    )


def find_channels(traced: Trace, name: str, node: Node, shape: tuple[int, ...]) -> int | None:
    """Return the channel axis of a map: the one that does not grow with the input, or else by the operations.

    Where neither tells, a map of a square image has its places along the two sides that are equal.
    """
    call = "" if name == LAST and not find_classifier(traced) else name
    varying = traced.varying_axes.get((call, shape), frozenset())
    fixed = find_fixed_axis(shape, varying)
    if fixed is not None:
        return fixed
    followed = find_channel_axis(node, count_axes(node), AXIS_READER)
    if followed is None and traced.backbone.input_spec.is_square:
        return guess_channel_axis(shape)
    return followed


def list_sources(node: Node) -> list[Node]:
    """Return the sources of a node whose axes are those of its value, perhaps in another order or shape."""
    if str(node.target) in VIEWS:
        return node.all_input_nodes[:1]
    return [source for source in node.all_input_nodes if count_axes(source) == count_axes(node)]


def read_channel_axis(node: Node) -> int | None:
    """Return the channel axis of a value with a batch axis, None if the operation that made it defines none."""
    rank = count_axes(node)
    target = str(node.target)
    if any(word in target for word in CHANNELS_LAST):
        return rank - 1
    if any(word in target for word in CHANNELS_FIRST):
        return 1
    if rank == 4 and target in VIEWS:
        # Tokens that are put back on their grid keep their channels last.
        widths = [example_tensor(source).shape[-1] for source in node.all_input_nodes if count_axes(source) == 3]
        if widths == [example_tensor(node).shape[-1]]:
            return 3
    return None


def read_moved_axes(node: Node) -> list[int | None] | None:
    """Return for each axis of a node's value the axis of its source, None if the operation moves none."""
    rank = count_axes(node)
    target = str(node.target)
    if target == PERMUTE:
        axes: Any = node.args[1]
        return [axis % rank for axis in axes]
    if target in TRANSPOSITIONS:
        order: list[int | None] = list(range(rank))
        first, second = (int(axis) for axis in node.args[1:3])  # type: ignore[arg-type]
        order[first], order[second] = order[second], order[first]
        return order
    if target in VIEWS:
        return match_axes(example_shape(node.all_input_nodes[0]), example_shape(node))
    return None


AXIS_READER = AxisReader(list_sources, read_channel_axis, read_moved_axes)
"""How channels are read from a traced graph."""
