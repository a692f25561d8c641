"""Resizing and cropping in the graph: decoded pixels of any size in, those of the model's size out, as by Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...models.image_spec import ImageSpec
from .graph_builder import GraphBuilder, Value
from .interpolation import NEAREST, Axis, add_interpolation, add_nearest_pixels

PIXELS = "pixels"
"""Name of the input of a graph that resizes images."""
PIXELS_PREFIX = "resize/"
HEIGHT_AXIS = 1
WIDTH_AXIS = 2


def prepend_resizing(model: Any, spec: ImageSpec) -> None:
    """Let a model of images of one size accept those of any size, in place."""
    from onnx import GraphProto

    resizing = GraphProto()
    resized = add_resizing(GraphBuilder(resizing, PIXELS_PREFIX), spec)
    rename_output(resizing, resized, spec.input_name)
    nodes = [*resizing.node, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(resizing.initializer)
    del model.graph.input[:]
    model.graph.input.append(describe_pixels())


def make_resizing_model(spec: ImageSpec, versions_of: Any) -> Any:
    """Return what :func:`prepend_resizing` adds as a model of its own, in the versions of another model."""
    from onnx import TensorProto, helper

    pixels = helper.make_tensor_value_info(spec.input_name, TensorProto.UINT8, [None, *spec.size, 3])
    graph = helper.make_graph([], "resize", [describe_pixels()], [pixels])
    resized = add_resizing(GraphBuilder(graph, PIXELS_PREFIX), spec)
    rename_output(graph, resized, spec.input_name)
    model = helper.make_model(graph, opset_imports=versions_of.opset_import)
    model.ir_version = versions_of.ir_version
    return model


def describe_pixels() -> Any:
    """Return the description of the input: uint8 ``(batch, height, width, 3)``, any height and width."""
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ["batch", "height", "width", 3])


def rename_output(graph: Any, value: Value, name: str) -> None:
    """Give the output of the last node of a graph another name."""
    last = graph.node[-1]
    assert last.output[0] == value
    last.output[0] = name


def add_resizing(graph: GraphBuilder, spec: ImageSpec) -> Value:
    """Return the pixels of the model's size, uint8 ``(batch, *spec.size, 3)``.

    Interpolation is a matrix product: ``Resize`` of ONNX rounds otherwise, and some runtimes ignore its ``antialias``.
    """
    # Find the pixels of the resized image that are wanted.
    height, width = (add_length(graph, position) for position in (HEIGHT_AXIS, WIDTH_AXIS))
    resized = add_resized_sides(graph, height, width, spec=spec)
    rows, is_row = add_axis(graph, height, resized[0], length=spec.size[0], rounding=spec.crop_rounding)
    columns, is_column = add_axis(graph, width, resized[1], length=spec.size[1], rounding=spec.crop_rounding)

    # Compute them, or the colour outside of it.
    planes = graph.add("Transpose", PIXELS, perm=[0, 3, 1, 2])  # (batch, 3, height, width)
    if spec.interpolation == NEAREST:
        planes = graph.add("Gather", planes, add_nearest_pixels(graph, columns), axis=3)
        levels = graph.cast(graph.add("Gather", planes, add_nearest_pixels(graph, rows), axis=2), np.float32)
    else:
        levels = add_interpolation(graph, planes, rows, columns, interpolation=spec.interpolation)
    across = graph.add("Reshape", is_column, graph.constant(np.array([1, -1], np.int64)))
    down = graph.add("Reshape", is_row, graph.constant(np.array([-1, 1], np.int64)))
    fill = graph.constant(np.array(spec.fill, np.float32).reshape(3, 1, 1))
    filled = graph.add("Where", graph.add("And", down, across), levels, fill)  # (batch, 3, *spec.size)
    return graph.cast(graph.add("Transpose", filled, perm=[0, 2, 3, 1]), np.uint8)


def add_length(graph: GraphBuilder, axis: int) -> Value:
    """Return the length of an axis of the input, an int64 scalar."""
    return graph.add("Gather", graph.add("Shape", PIXELS), graph.constant(np.array(axis, np.int64)))


def add_resized_sides(graph: GraphBuilder, height: Value, width: Value, *, spec: ImageSpec) -> list[Value]:
    """Return height and width of an image after resizing, as :meth:`ImageSpec.resized`."""
    if spec.fit == "squash":
        return [graph.constant(np.array(side, np.int64)) for side in spec.resized_sides]
    if spec.fit == "shorter":
        shorter = add_smaller(graph, height, width)
        wanted = graph.constant(np.array(spec.resize, np.int64))
        sides = [graph.add("Div", graph.add("Mul", wanted, side), shorter) for side in (height, width)]
    else:
        sides = add_proportional_sides(graph, height, width, spec=spec)
    one = graph.constant(np.array(1, np.int64))
    return [graph.add("Where", graph.add("Less", side, one), one, side) for side in sides]


def add_proportional_sides(graph: GraphBuilder, height: Value, width: Value, *, spec: ImageSpec) -> list[Value]:
    """Return the sides of an image that covers two given sides, or just fits into them, rounded."""
    lengths = [graph.cast(side, np.float64) for side in (height, width)]
    ratios = []
    for length, target in zip(lengths, spec.resized_sides, strict=True):
        ratios.append(graph.add("Div", length, graph.numbers(float(target))))
    ratio = graph.add("Max" if spec.fit == "border" else "Min", *ratios)
    return [graph.cast(graph.add("Round", graph.add("Div", length, ratio)), np.int64) for length in lengths]


def add_smaller(graph: GraphBuilder, first: Value, second: Value) -> Value:
    """Return the smaller of two integers."""
    return graph.add("Where", graph.add("Less", first, second), first, second)


def add_axis(graph: GraphBuilder, original: Value, resized: Value, *, length: int, rounding: str) -> tuple[Axis, Value]:
    """Return an axis whose centre is wanted, and which of its pixels exist, booleans ``(length,)``.

    Pixels outside of a resized axis that is shorter are replaced by the first or the last.
    """
    zero = graph.constant(np.array(0, np.int64))
    last = graph.add("Sub", resized, graph.constant(np.array(1, np.int64)))
    places = graph.add("Add", graph.constant(np.arange(length)), add_start(graph, resized, length, rounding))
    is_before = graph.add("Less", places, zero)
    is_behind = graph.add("Less", last, places)
    exists = graph.add("Not", graph.add("Or", is_before, is_behind))
    positions = graph.add("Where", is_before, zero, graph.add("Where", is_behind, last, places))
    return Axis(original, resized, positions), exists


def add_start(graph: GraphBuilder, resized: Value, length: int, rounding: str) -> Value:
    """Return the position in the resized axis of the first pixel that is wanted, negative if the axis is shorter.

    Halves are rounded as by :meth:`Span.in_centre` and :func:`place_in_centre`.
    """
    excess = graph.add("Sub", graph.cast(resized, np.float64), graph.numbers(float(length)))
    half = graph.add("Mul", excess, graph.numbers(0.5))
    if rounding == "floor":
        start = graph.add("Floor", half)
    else:
        is_shorter = graph.add("Less", excess, graph.numbers(0.0))
        start = graph.add("Where", is_shorter, graph.add("Ceil", half), graph.add("Round", half))
    return graph.cast(start, np.int64)
