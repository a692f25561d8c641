"""The legal cuts of an ONNX graph, and where their channels are."""

from __future__ import annotations

import math
from typing import Any

from ..dataflow import AxisReader, Cost, add_costs, find_channel_axis, match_axes, measure_layers
from ..layer import LAST, Layer, guess_channel_axis, make_layer
from .tokens import count_prefix_tokens
from .trace import OnnxTrace, find_value
from .value_graph import FLOAT_TYPES, Value

CHANNELS_FIRST = ("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization")
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
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
        find_channel_axis=lambda: find_channels(traced, value, sizes[1:]),
        count_prefix_tokens=lambda: count_prefix_tokens(traced, value),
        is_padded=True,
    )


def find_channels(traced: OnnxTrace, value: Value, shape: tuple[int, ...]) -> int | None:
    """Return the channel axis of a map by its operations; of a square image, by the two sides that are equal."""
    followed = find_channel_axis(value, len(shape) + 1, axis_reader(traced))
    if followed is None and traced.is_square:
        return guess_channel_axis(shape)
    return followed


def axis_reader(traced: OnnxTrace) -> AxisReader:
    """Return how channels are read from the values of a file."""
    return AxisReader(
        list_sources=lambda value: list_sources(traced, value),
        read_channel_axis=lambda value: read_channel_axis(traced, value),
        read_moved_axes=lambda value: read_moved_axes(traced, value),
    )


def list_sources(traced: OnnxTrace, value: Value) -> list[Value]:
    """Return the sources of a value whose axes are its own, perhaps in another order or shape."""
    sources = traced.live_sources(value)
    if value.operation in VIEWS:
        return sources[:1]
    return [source for source in sources if len(traced.sizes(source)) == len(traced.sizes(value))]


def read_channel_axis(traced: OnnxTrace, value: Value) -> int | None:
    """Return the channel axis of a value with a batch axis, None if the operation that made it defines none."""
    rank = len(traced.sizes(value))
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


def read_moved_axes(traced: OnnxTrace, value: Value) -> list[int | None] | None:
    """Return for each axis of a value the axis of its source, None if the operation moves none."""
    sizes = traced.sizes(value)
    if value.operation == "Transpose":
        reversed_axes = list(reversed(range(len(sizes))))
        return list(value.attribute("perm", reversed_axes))
    sources = traced.live_sources(value)
    if value.operation in VIEWS and sources:
        return match_axes(traced.sizes(sources[0]), sizes)
    return None


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
