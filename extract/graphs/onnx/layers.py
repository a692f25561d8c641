"""The legal cuts of an ONNX graph, and where their channels are; see :mod:`topwork.extract.graphs.torch.layers`."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import Any

from ..dominance import ancestors
from ..layer import LAST, Layer, channels_by_sides
from .tokens import prefix_tokens
from .trace import OnnxTrace, value_of
from .value_graph import FLOATS, Value

CHANNELS_FIRST = ("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization")
CHANNELS_LAST = ("Gemm", "MatMul", "LayerNormalization")


def onnx_layers(trace: OnnxTrace) -> list[Layer]:
    """List the legal cuts, ``last`` at the end, with what lies below each."""
    costs = {value: (_parameters(value), _flops(trace, value)) for value in trace.graph.values.values()}
    parameters, flops = (max(1, sum(cost[i] for cost in costs.values())) for i in (0, 1))
    found = []
    for name in (*trace.named, LAST):
        value: Any = value_of(trace, name)
        below = [costs[v] for v in _below(value)]
        share, cost = sum(c[0] for c in below) / parameters, sum(c[1] for c in below) / flops
        found.append(replace(describe(trace, name), parameters=share, flops=cost, single_tensor=value in trace.passed))
    return found


def _below(value: Any) -> set[Any]:
    return set(ancestors([value]))


def describe(trace: OnnxTrace, name: str) -> Layer:
    """Describe one layer, without what lies below it."""
    value = value_of(trace, name)
    shape = trace.measured[value.name].shape
    assert shape is not None
    if len(shape) == 1:
        return Layer(name, shape, "vector")
    if None in shape:
        return Layer(name, shape, "tokens")
    channels = _channel_axis(trace, value)
    if len(shape) == 2 and channels != 0:
        return Layer(name, shape, "tokens", prefix_tokens=prefix_tokens(trace, value))
    return Layer(name, shape, "map", channels)


def _channel_axis(trace: OnnxTrace, value: Value) -> int | None:
    """Find the channels of a map: follow it back to an operation that tells, or else judge by its sides."""
    rank = len(trace.sizes(value))
    pending, seen = deque([(value, tuple(range(rank)))]), {value}
    while pending:
        current, order = pending.popleft()  # order[i]: the axis of the current value that becomes axis i of the map
        channels = _told_by(trace, current, rank)
        if channels is not None:
            return {1: 0, rank - 1: -1}.get(order.index(channels))
        if current.operation == "Transpose":
            axes = current.attribute("perm", list(reversed(range(rank))))
            order = tuple(axes[axis] for axis in order)
        for source in trace.live_sources(current):
            if source not in seen and len(trace.sizes(source)) == rank:
                seen.add(source)
                pending.append((source, order))
    return channels_by_sides(trace.sizes(value)[1:])


def _told_by(trace: OnnxTrace, value: Value, rank: int) -> int | None:
    """Return the channel axis of a value with a batch axis, if the operation that made it says so."""
    sources = trace.live_sources(value)
    if value.operation in CHANNELS_LAST and len(sources) == 1:
        return rank - 1
    if value.operation in CHANNELS_FIRST or value.operation.endswith("Pool"):
        return 1
    sizes = [trace.sizes(source)[-1] for source in sources if len(trace.sizes(source)) == 3]
    unfolded = rank == 4 and value.operation == "Reshape" and sizes == [trace.sizes(value)[-1]]
    return 3 if unfolded else None  # tokens put back on their grid keep their channels last


def _parameters(value: Value) -> int:
    """Return how many numbers of the network's weights a value holds."""
    import onnx

    tensor = value.tensor
    is_float = tensor is not None and onnx.TensorProto.DataType.Name(tensor.data_type) in FLOATS
    return math.prod(tensor.dims) if is_float else 0


def _flops(trace: OnnxTrace, value: Value) -> int:
    """Return the floating-point operations of one value for one item, as for PyTorch networks."""
    if value.name not in trace.measured or not trace.is_live(value):
        return 0
    if value.operation in ("Gemm", "MatMul"):
        inner = trace.sizes(value.all_input_nodes[0])[-1]
    elif value.operation in ("Conv", "ConvTranspose"):
        inner = math.prod(trace.sizes(value.all_input_nodes[1])[1:])
    else:
        return 0
    found = trace.measured[value.name]
    return 2 * math.prod(found.sizes) // found.batch * inner
