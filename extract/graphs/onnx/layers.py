"""The legal cuts of an ONNX graph, and where their channels are."""

from __future__ import annotations

import math
from typing import Any

from ..dataflow import AxisReader, Cost, add_costs, find_channel_axis, measure_layers
from ..layer import LAST, Layer, make_layer
from .tokens import count_prefix_tokens
from .trace import OnnxTrace, find_value
from .value_graph import FLOAT_TYPES, Value

CHANNELS_FIRST = ("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization")
CHANNELS_LAST = ("Gemm", "MatMul", "LayerNormalization")


def list_layers(traced: OnnxTrace) -> list[Layer]:
    """List the legal cuts of a file, in order of execution, ``last`` at the end."""
    layers: list[tuple[Layer, Any]] = []
    for name in (*traced.named, LAST):
        layers.append((describe_layer(traced, name), find_value(traced, name)))
    costs = {value: measure_cost(traced, value) for value in traced.graph.values.values()}
    return measure_layers(layers, costs, total=add_costs(costs.values()), dominators=traced.dominators)


def describe_layer(traced: OnnxTrace, name: str) -> Layer:
    """Describe one layer, without the shares of parameters and FLOPs."""
    value = find_value(traced, name)
    shape = traced.measured[value.name].shape
    assert shape is not None
    sizes = traced.sizes(value)
    return make_layer(
        name,
        shape,
        find_channel_axis=lambda: find_channel_axis(value, sizes[1:], axis_reader(traced, len(sizes))),
        count_prefix_tokens=lambda: count_prefix_tokens(traced, value),
    )


def axis_reader(traced: OnnxTrace, rank: int) -> AxisReader:
    """Return how channels are read from the values of a file that have so many axes."""
    return AxisReader(
        list_sources=lambda value: [s for s in traced.live_sources(value) if len(traced.sizes(s)) == rank],
        read_channel_axis=lambda value: read_channel_axis(traced, value, rank),
        read_permutation=lambda value: read_permutation(value, rank),
    )


def read_channel_axis(traced: OnnxTrace, value: Value, rank: int) -> int | None:
    """Return the channel axis of a value with a batch axis, None if the operation that made it defines none."""
    sources = traced.live_sources(value)
    if value.operation in CHANNELS_LAST and len(sources) == 1:
        return rank - 1
    if value.operation in CHANNELS_FIRST or value.operation.endswith("Pool"):
        return 1
    if rank == 4 and value.operation == "Reshape":
        # Tokens that are put back on their grid keep their channels last.
        widths = [traced.sizes(source)[-1] for source in sources if len(traced.sizes(source)) == 3]
        if widths == [traced.sizes(value)[-1]]:
            return 3
    return None


def read_permutation(value: Value, rank: int) -> list[int] | None:
    """Return the axes that an operation permutes, None if it is no permutation; without axes, it reverses them."""
    if value.operation != "Transpose":
        return None
    reversed_axes = list(reversed(range(rank)))
    return list(value.attribute("perm", reversed_axes))


def measure_cost(traced: OnnxTrace, value: Value) -> Cost:
    """Return the cost of one value: numbers of the model's weights, and operations for one item."""
    import onnx

    tensor = value.tensor
    parameters = 0
    if tensor is not None and onnx.TensorProto.DataType.Name(tensor.data_type) in FLOAT_TYPES:
        parameters = math.prod(tensor.dims)
    return Cost(parameters, count_flops(traced, value))


def count_flops(traced: OnnxTrace, value: Value) -> int:
    """Return the floating-point operations of one value for one item, as for PyTorch modules."""
    if value.name not in traced.measured or not traced.is_live(value):
        return 0
    if value.operation in ("Gemm", "MatMul"):
        inner = traced.sizes(value.all_input_nodes[0])[-1]
    elif value.operation in ("Conv", "ConvTranspose"):
        kernel = traced.sizes(value.all_input_nodes[1])
        inner = math.prod(kernel[1:])
    else:
        return 0
    measured = traced.measured[value.name]
    return 2 * math.prod(measured.sizes) // measured.batch * inner
