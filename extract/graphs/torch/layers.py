"""The legal cuts of a traced network, and where their channels are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..dominance import ancestors, gates
from ..layer import LAST, Layer, channels_by_sides
from .flow import flops_of, parameters_of, tensor_of
from .tokens import prefix_tokens
from .trace import Trace, node_of

if TYPE_CHECKING:
    from torch.fx import Node

CHANNELS_FIRST = ("conv", "batch_norm", "group_norm", "pool")
CHANNELS_LAST = ("linear", "layer_norm", "addmm")


def torch_layers(traced: Trace) -> list[Layer]:
    """List the legal cuts of a traced network, in order of execution, ``last`` at the end."""
    names = [name for name in traced.values if name] + [LAST]
    return _measured(traced, [describe(traced, name) for name in names])


def _measured(traced: Trace, found: list[Layer]) -> list[Layer]:
    """Add what lies below each cut, and whether all data flows through it."""
    passed = gates(traced.live, traced.values[""])
    costs = {node: (parameters_of(node), flops_of(node)) for node in traced.module.graph.nodes}
    used = [costs[node] for node in ancestors(traced.values.values())]
    parameters, flops = (max(1, sum(cost[i] for cost in used)) for i in (0, 1))
    measured = []
    for layer in found:
        node = node_of(traced, layer.name)
        below = [costs[n] for n in ancestors([node])]
        share, cost = sum(c[0] for c in below) / parameters, sum(c[1] for c in below) / flops
        measured.append(replace(layer, parameters=share, flops=cost, single_tensor=node in passed))
    return measured


def describe(traced: Trace, name: str) -> Layer:
    """Describe one layer."""
    node = node_of(traced, name)
    shape = tuple(size if isinstance(size, int) else None for size in tensor_of(node).shape[1:])
    if len(shape) == 1:
        return Layer(name, shape, "vector")
    if None in shape:
        return Layer(name, shape, "tokens")
    channels = _channel_axis(node)
    if len(shape) == 2 and channels != 0:
        return Layer(name, shape, "tokens", prefix_tokens=prefix_tokens(traced, node))
    return Layer(name, shape, "map", channels)


def _channel_axis(node: Node) -> int | None:
    """Find the channels of a map: follow its value back to an operation that tells, or else judge by its sides."""
    rank = _axes(node)
    start = tuple(range(rank))
    pending, seen = [(node, start)], {node}
    while pending:
        current, order = pending.pop(0)  # order[i]: the axis of the current value that becomes axis i of the map
        channels = _told_by(current, rank)
        if channels is not None:
            return {1: 0, rank - 1: -1}.get(order.index(channels))
        if str(current.target) == "aten.permute.default":
            axes: Any = current.args[1]
            order = tuple(axes[axis] % rank for axis in order)
        for source in current.all_input_nodes:
            if source not in seen and _axes(source) == rank:
                seen.add(source)
                pending.append((source, order))
    return channels_by_sides(tuple(tensor_of(node).shape[1:]))


def _told_by(node: Node, rank: int) -> int | None:
    """Return the channel axis of a value with a batch axis, if the operation that made it says so."""
    target = str(node.target)
    if any(word in target for word in CHANNELS_LAST):
        return rank - 1
    if any(word in target for word in CHANNELS_FIRST):
        return 1
    sizes = [tensor_of(n).shape[-1] for n in node.all_input_nodes if _axes(n) == 3]
    unfolded = rank == 4 and target == "aten.view.default" and sizes == [tensor_of(node).shape[-1]]
    return 3 if unfolded else None  # tokens put back on their grid keep their channels last


def _axes(node: Node) -> int:
    return getattr(tensor_of(node), "ndim", 0)
