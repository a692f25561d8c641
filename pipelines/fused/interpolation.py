"""Weights by which Pillow resizes one axis of an image, computed in the graph, as the size is known only there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .graph_builder import GraphBuilder, Value

WEIGHT_STEPS = float(2**22)
"""Pillow rounds the weights of 8-bit images to multiples of the inverse of this number."""
COARSE_STEPS = float(2**11)
"""Sums of products of pixels and multiples of the inverse of this number are exact in float32, in any order."""
LARGEST_LEVEL = 255.0
FIRST_PILLOW_WITH_ROWS_FIRST = 13


@dataclass(frozen=True)
class Axis:
    """One axis of an image before and after resizing.

    `original` and `resized` are its lengths in pixels, int64 scalars; `positions`, int64 ``(length,)``, are the pixels
    of the resized axis that are wanted.
    """

    original: Value
    resized: Value
    positions: Value


def add_interpolation(graph: GraphBuilder, planes: Value, rows: Axis, columns: Axis, *, interpolation: str) -> Value:
    """Return the wanted pixels of planes ``(batch, 3, height, width)``, uint8, as float32 levels.

    Either the columns or the rows are computed first and rounded. Pillow computes columns first; since version 13 rows
    where the image loses more than twice as many rows as columns. A batch is computed in one order and no image in the
    other: OpenVINO 2026.4 computes a branch of ``If`` wrongly when it is run for the first time.
    """
    by_column = split_weights(graph, add_weights(graph, columns, interpolation))
    by_row = split_weights(graph, add_weights(graph, rows, interpolation))

    def compute_columns(levels: Value) -> Value:
        products = [graph.add("MatMul", levels, graph.add("Transpose", part)) for part in by_column]
        return add_rounded_sum(graph, *products)

    def compute_rows(levels: Value) -> Value:
        products = [graph.add("MatMul", part, levels) for part in by_row]
        return add_rounded_sum(graph, *products)

    if not can_begin_with_rows():
        return compute_rows(compute_columns(graph.cast(planes, np.float32)))
    zero = graph.constant(np.array([0], np.int64))
    n_images = graph.add("Gather", graph.add("Shape", planes), zero)
    n_by_rows = graph.add("Where", add_row_order(graph, rows, columns), n_images, zero)
    rows_first = graph.cast(graph.add("Slice", planes, zero, n_by_rows, zero), np.float32)
    columns_first = graph.cast(graph.add("Slice", planes, n_by_rows, n_images, zero), np.float32)
    finished = [compute_columns(compute_rows(rows_first)), compute_rows(compute_columns(columns_first))]
    return graph.add("Concat", *finished, axis=0)


def can_begin_with_rows() -> bool:
    """Return whether Pillow computes the rows of some images first."""
    import PIL

    return int(PIL.__version__.split(".")[0]) >= FIRST_PILLOW_WITH_ROWS_FIRST


def add_row_order(graph: GraphBuilder, rows: Axis, columns: Axis) -> Value:
    """Return whether rows are computed first, a boolean scalar."""
    lost_rows = graph.add("Sub", rows.original, rows.resized)
    lost_columns = graph.add("Sub", columns.original, columns.resized)
    has_fewer_rows = graph.add("Less", rows.resized, rows.original)
    loses_more = graph.add("Less", graph.add("Add", lost_columns, lost_columns), lost_rows)
    return graph.add("And", has_fewer_rows, loses_more)


def split_weights(graph: GraphBuilder, weights: Value) -> tuple[Value, Value]:
    """Return two float32 matrices whose sum are the weights: multiples of a coarse step, and small rests.

    Their products with pixels lose nothing in float32, whose sums with the weights themselves would be rounded.
    """
    steps = graph.numbers(COARSE_STEPS)
    coarse = graph.add("Div", graph.add("Round", graph.add("Mul", weights, steps)), steps)
    rest = graph.add("Sub", weights, coarse)
    return graph.cast(coarse, np.float32), graph.cast(rest, np.float32)


def add_rounded_sum(graph: GraphBuilder, coarse: Value, rest: Value) -> Value:
    """Return the sum of two parts of float32 levels, rounded to levels from 0 to 255, halves upwards."""
    raised = graph.add("Add", coarse, graph.constant(np.array(0.5, np.float32)))
    whole = graph.add("Floor", raised)
    fraction = graph.add("Add", graph.add("Sub", raised, whole), rest)
    levels = graph.add("Add", whole, graph.add("Floor", fraction))
    lowest = graph.constant(np.array(0.0, np.float32))
    return graph.add("Clip", levels, lowest, graph.constant(np.array(LARGEST_LEVEL, np.float32)))


def add_weights(graph: GraphBuilder, axis: Axis, interpolation: str) -> Value:
    """Return the weights of the original pixels in each wanted one, float64 ``(length, original)``.

    They are computed as in ``precompute_coeffs`` of Pillow's Resample.c, in the same order in float64: a filter that is
    as much wider as the image becomes smaller, so that it also removes aliasing. Their sum is one; they are rounded.
    """
    values = add_filter_values(graph, axis, interpolation)
    one_row = graph.constant(np.array([1], np.int64))
    width = graph.add("Reshape", axis.original, one_row)
    ones = graph.add("Expand", graph.numbers(1.0), graph.add("Concat", width, one_row, axis=0))  # (original, 1)
    weights = graph.add("Div", values, graph.add("MatMul", values, ones))
    steps = graph.numbers(WEIGHT_STEPS)
    return graph.add("Div", graph.add("Round", graph.add("Mul", weights, steps)), steps)


def add_filter_values(graph: GraphBuilder, axis: Axis, interpolation: str) -> Value:
    """Return the values of a filter over each wanted pixel at the original ones, float64 ``(length, original)``."""
    half_width, compute = FILTERS[interpolation]
    half = graph.numbers(0.5)
    one = graph.numbers(1.0)

    # Find the centre and the reach of the filter for each wanted pixel.
    scale = add_scale(graph, axis)
    stretch = graph.add("Max", scale, one)
    column = graph.add("Reshape", axis.positions, graph.constant(np.array([-1, 1], np.int64)))  # (length, 1)
    center = graph.add("Mul", graph.add("Add", graph.cast(column, np.float64), half), scale)
    reach = graph.add("Mul", graph.numbers(half_width), stretch)
    lowest = graph.add("Floor", graph.add("Add", graph.add("Sub", center, reach), half))
    end = graph.add("Floor", graph.add("Add", graph.add("Add", center, reach), half))

    # Compute its values within it.
    pixels = graph.cast(add_range(graph, axis.original), np.float64)  # (original,)
    offset = graph.add("Add", graph.add("Sub", pixels, center), half)  # (length, original)
    values = compute(graph, graph.add("Mul", offset, graph.add("Div", one, stretch)))
    is_outside = graph.add("Or", graph.add("Less", pixels, lowest), graph.add("Not", graph.add("Less", pixels, end)))
    return graph.add("Where", is_outside, graph.numbers(0.0), values)


def add_nearest_pixels(graph: GraphBuilder, axis: Axis) -> Value:
    """Return the positions of the original pixels that are nearest to the wanted ones, int64 ``(length,)``.

    The scale is added again and again as in ``ImagingScaleAffine`` of Pillow's Geometry.c; a product would be rounded
    otherwise.
    """
    scale = add_scale(graph, axis)
    first = graph.add("Mul", scale, graph.numbers(0.5))
    one_row = graph.constant(np.array([1], np.int64))
    n_others = graph.add("Sub", graph.add("Reshape", axis.resized, one_row), one_row)
    others = graph.add("Expand", scale, n_others)
    steps = graph.add("Concat", graph.add("Reshape", first, one_row), others, axis=0)  # (resized,)
    places = graph.add("CumSum", steps, graph.constant(np.array(0, np.int64)))
    wanted = graph.add("Gather", places, axis.positions, axis=0)  # (length,)
    last = graph.add("Sub", axis.original, graph.constant(np.array(1, np.int64)))
    nearest = graph.cast(graph.add("Floor", wanted), np.int64)
    return graph.add("Where", graph.add("Less", nearest, last), nearest, last)


def add_scale(graph: GraphBuilder, axis: Axis) -> Value:
    """Return the number of original pixels for each resized one, float64."""
    return graph.add("Div", graph.cast(axis.original, np.float64), graph.cast(axis.resized, np.float64))


def add_range(graph: GraphBuilder, count: Value) -> Value:
    """Return the numbers from zero on, int64 ``(count,)``."""
    zero = graph.constant(np.array(0, np.int64))
    one = graph.constant(np.array(1, np.int64))
    return graph.add("Range", zero, count, one)


def add_box(graph: GraphBuilder, offset: Value) -> Value:
    """Return 1 within half a pixel; at the lower end 0."""
    is_above = graph.add("Greater", offset, graph.numbers(-0.5))
    is_beyond = graph.add("Greater", offset, graph.numbers(0.5))
    return graph.cast(graph.add("And", is_above, graph.add("Not", is_beyond)), np.float64)


def add_triangle(graph: GraphBuilder, offset: Value) -> Value:
    """Return the weights of linear interpolation."""
    falling = graph.add("Sub", graph.numbers(1.0), graph.add("Abs", offset))
    return graph.add("Max", falling, graph.numbers(0.0))


def add_hamming(graph: GraphBuilder, offset: Value) -> Value:
    """Return a sinc within one pixel, multiplied by a Hamming window, whose constants are float32 in Pillow."""
    distance = graph.add("Min", graph.add("Abs", offset), graph.numbers(1.0))
    turned = graph.add("Mul", distance, graph.numbers(math.pi))
    cosine = graph.add("Sin", graph.add("Add", turned, graph.numbers(math.pi / 2)))
    wave = graph.add("Mul", graph.numbers(np.float32(0.46)), cosine)
    window = graph.add("Add", graph.numbers(np.float32(0.54)), wave)
    return graph.add("Mul", add_sinc(graph, distance), window)


def add_cubic(graph: GraphBuilder, offset: Value) -> Value:
    """Return the weights of cubic convolution with a = -0.5 (Keys 1981)."""
    one = graph.numbers(1.0)
    distance = graph.add("Min", graph.add("Abs", offset), graph.numbers(2.0))
    square = graph.add("Mul", distance, distance)
    inner_factor = graph.add("Sub", graph.add("Mul", distance, graph.numbers(1.5)), graph.numbers(2.5))
    inner = graph.add("Add", graph.add("Mul", inner_factor, square), one)  # 1.5 d^3 - 2.5 d^2 + 1
    outer = graph.add("Mul", graph.add("Sub", distance, graph.numbers(5.0)), distance)
    outer = graph.add("Add", outer, graph.numbers(8.0))
    outer = graph.add("Sub", graph.add("Mul", outer, distance), graph.numbers(4.0))
    outer = graph.add("Mul", outer, graph.numbers(-0.5))  # -0.5 (d^3 - 5 d^2 + 8 d - 4)
    return graph.add("Where", graph.add("Less", distance, one), inner, outer)


def add_lanczos(graph: GraphBuilder, offset: Value) -> Value:
    """Return a sinc within three pixels, multiplied by its own middle lobe, three times as wide."""
    third = graph.add("Div", offset, graph.numbers(3.0))
    window = graph.add("Mul", add_sinc(graph, offset), add_sinc(graph, third))
    is_far = graph.add("Greater", graph.add("Abs", offset), graph.numbers(3.0))
    return graph.add("Where", is_far, graph.numbers(0.0), window)


def add_sinc(graph: GraphBuilder, offset: Value) -> Value:
    """Return ``sin(pi x) / (pi x)``, which is 1 at zero."""
    is_zero = graph.add("Equal", offset, graph.numbers(0.0))
    angle = graph.add("Mul", graph.add("Where", is_zero, graph.numbers(1.0), offset), graph.numbers(math.pi))
    ratio = graph.add("Div", graph.add("Sin", angle), angle)
    return graph.add("Where", is_zero, graph.numbers(1.0), ratio)


Filter = Callable[[GraphBuilder, Value], Value]
FILTERS: dict[str, tuple[float, Filter]] = {
    "box": (0.5, add_box),
    "bilinear": (1.0, add_triangle),
    "hamming": (1.0, add_hamming),
    "bicubic": (2.0, add_cubic),
    "lanczos": (3.0, add_lanczos),
}
"""Half the width of each filter of Pillow, in pixels, and what computes its weights from distances."""
NEAREST = "nearest"
"""The interpolation without a filter."""
