"""The flow of data through a graph: ancestors, dominators, channels, and what lies below a cut.

These functions work on any graph whose nodes list what they are computed from as ``all_input_nodes``: traced PyTorch
graphs (``torch.fx.Node``) and ONNX graphs (:class:`topwork.extract.graphs.onnx.value_graph.Value`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from .layer import Layer


def find_ancestors(nodes: Iterable[Any]) -> set[Any]:
    """Return all nodes that some nodes are computed from, including themselves."""
    needed: set[Any] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending.extend(node.all_input_nodes)
    return needed


def find_dominators(live: Sequence[Any], output: Any) -> set[Any]:
    """Return the nodes that every path of data from the input to the output passes.

    The live nodes are those that depend on the input, in topological order; the output is one of them. For an acyclic
    graph in this order, the immediate dominator of a node is the nearest dominator that its sources share (Cooper,
    Harvey and Kennedy 2001, "A simple, fast dominance algorithm").
    """
    order = {node: position for position, node in enumerate(live)}
    immediate: dict[Any, Any] = {}

    def nearest_common(one: Any, other: Any) -> Any:
        while one is not other:
            if order[one] > order[other]:
                one = immediate[one]
            else:
                other = immediate[other]
        return one

    for node in live:
        sources = [source for source in node.all_input_nodes if source in immediate]
        immediate[node] = reduce(nearest_common, sources) if sources else node

    # Follow the immediate dominators from the output to the input.
    dominators = {output}
    node = output
    while immediate.get(node, node) is not node:
        node = immediate[node]
        dominators.add(node)
    return dominators


def walk_back(start: Any, list_sources: Callable[[Any], Iterable[Any]]) -> Iterator[Any]:
    """Yield a node and the nodes that it is computed from, as listed for each, once and nearest first."""
    pending = deque([start])
    seen = {start}
    while pending:
        node = pending.popleft()
        yield node
        for source in list_sources(node):
            if source not in seen:
                seen.add(source)
                pending.append(source)


@dataclass(frozen=True)
class AxisReader:
    """What :func:`find_channel_axis` must know of a kind of graph.

    `list_sources` returns the sources of a node whose axes are those of its value, perhaps in another order or shape;
    `read_channel_axis` the axis that its operation defines as channels, None if it defines none; `read_moved_axes` for
    each axis of its value the axis of its source that it was, None for one that was merged or split, and None instead
    of the list if the operation leaves the axes where they are.
    """

    list_sources: Callable[[Any], Iterable[Any]]
    read_channel_axis: Callable[[Any], int | None]
    read_moved_axes: Callable[[Any], Sequence[int | None] | None]


def find_channel_axis(node: Any, rank: int, reader: AxisReader) -> int | None:
    """Find the channel axis of a map by following it back to an operation that defines it.

    `rank` counts the axes of the node's value, the batch included. The axis is as in
    :class:`topwork.extract.graphs.layer.Layer`; None where the channels are in the middle, or unknown.
    """
    orders: dict[Any, tuple[int | None, ...]] = {node: tuple(range(rank))}
    # orders[n][i] is the axis of node n that becomes axis i of the map.
    for current in walk_back(node, reader.list_sources):
        order = orders[current]
        channels = reader.read_channel_axis(current)
        if channels is not None:
            if channels not in order:
                return None
            return {1: 0, rank - 1: -1}.get(order.index(channels))
        moved = reader.read_moved_axes(current)
        if moved is not None:
            order = tuple(None if axis is None else moved[axis] for axis in order)
        for source in reader.list_sources(current):
            orders.setdefault(source, order)
    return None


def match_axes(before: Sequence[int], after: Sequence[int]) -> list[int | None]:
    """Return for each axis of a reshaped value the axis before that it was, None for one that was merged or split.

    Parameters
    ----------
    before, after : sequence of int
        Shapes of the same number of values.

    Examples
    --------
    >>> match_axes((2, 8, 4, 4), (2, 8, 16))
    [0, 1, None]
    """
    matched: list[int | None] = [None] * len(after)
    first = 0
    position = 0
    while first < len(before) and position < len(after):
        # Take the smallest groups of axes, before and after, that hold as many values.
        end_before = first + 1
        end_after = position + 1
        while math.prod(before[first:end_before]) != math.prod(after[position:end_after]):
            if math.prod(before[first:end_before]) < math.prod(after[position:end_after]):
                end_before += 1
            else:
                end_after += 1
            if end_before > len(before) or end_after > len(after):
                return matched
        if end_before == first + 1 and end_after == position + 1:
            matched[position] = first
        first = end_before
        position = end_after
    return matched


@dataclass(frozen=True)
class Cost:
    """Number of parameters that a node holds, and of floating-point operations that it takes for one item."""

    parameters: int = 0
    flops: int = 0


def add_costs(costs: Iterable[Cost]) -> Cost:
    """Return the sum of some costs."""
    parameters = 0
    flops = 0
    for cost in costs:
        parameters += cost.parameters
        flops += cost.flops
    return Cost(parameters, flops)


def measure_layers(
    layers: Sequence[tuple[Layer, Any]], costs: Mapping[Any, Cost], total: Cost, dominators: Collection[Any]
) -> list[Layer]:
    """Add to each layer what lies below the node that yields its value, and whether all data flows through it.

    Costs are those of each node and of the whole model; all data passes the dominators.
    """
    measured = []
    for layer, node in layers:
        below = add_costs(costs[ancestor] for ancestor in find_ancestors([node]))
        measured.append(
            replace(
                layer,
                parameters=below.parameters / max(1, total.parameters),
                flops=below.flops / max(1, total.flops),
                single_tensor=node in dominators,
            )
        )
    return measured
