"""The inputs of an ONNX file: which one takes the items, and arrays for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import InputError
from ....models.from_onnx import (
    FLOAT_INPUTS,
    INTEGER_INPUTS,
    OnnxInput,
    check_text_inputs,
    read_inputs,
    read_model,
)
from .value_graph import OnnxGraph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ....models.backbone import OnnxBackbone
    from ....models.input_spec import InputSpec, Normalization

ROUNDING_ERROR = 1e-3
"""Largest distance from an integer that is ascribed to the computation of a normalised pixel."""

MAX_FIXED_BATCH = 1024


def find_data_input(backbone: OnnxBackbone) -> str:
    """Return the input that takes the items; raise an InputError if the file does not fit its input specification."""
    spec = backbone.input_spec
    inputs = read_inputs(read_model(backbone.path))
    for port in inputs:
        check_batch(backbone, port)
    if spec.item_shape is None and spec.kind == "audio":
        raise InputError(
            f"{backbone.path} takes sounds that are not padded, which ONNX files do not; expected an AudioSpec with "
            "another padding than 'none'"
        )
    if spec.item_shape is None:
        wanted = [port.name for port in spec.graph_inputs]
        if not {port.name for port in inputs}.issuperset(wanted):
            raise unexpected_inputs(backbone, inputs, f"the inputs {', '.join(wanted)}")
        check_text_inputs(backbone.path, inputs, wanted)
        return wanted[0]
    if len(inputs) != 1 or not any(fits(inputs[0].axes, shape) for shape in list_item_shapes(spec)):
        shapes = " or ".join(f"(batch, {', '.join(map(str, shape))})" for shape in list_item_shapes(spec))
        raise unexpected_inputs(backbone, inputs, f"one input of shape {shapes}")
    check_type(backbone, inputs[0])
    return inputs[0].name


def check_batch(backbone: OnnxBackbone, port: OnnxInput) -> None:
    """Raise an InputError for a fixed batch size that makes each item, which is repeated as often, expensive."""
    size = port.axes[0] if port.axes else None
    if size is not None and not 1 <= size <= MAX_FIXED_BATCH:
        raise InputError(
            f"{backbone.path} takes batches of exactly {size:,} items; expected any number, or at most "
            f"{MAX_FIXED_BATCH:,}. Export the model with a free first axis."
        )


def list_item_shapes(spec: InputSpec) -> list[tuple[int, ...]]:
    """Return the shapes in which a file may take one item.

    Images have the channels first, or last; sounds of one channel have an axis for it, or none.
    """
    assert spec.item_shape is not None
    if spec.kind == "audio" and len(spec.item_shape) == 1:
        return [spec.item_shape, (1, *spec.item_shape)]
    if spec.normalization is None:
        return [spec.item_shape]
    channels, height, width = spec.item_shape
    return [spec.item_shape, (height, width, channels)]


def fits(axes: Sequence[int | None], item_shape: tuple[int, ...]) -> bool:
    """Return whether axes, of which some are free, accept batches of items of a shape."""
    if len(axes) != len(item_shape) + 1:
        return False
    return all(axis in (None, size) for axis, size in zip(axes[1:], item_shape, strict=True))


def check_type(backbone: OnnxBackbone, port: OnnxInput) -> None:
    """Raise an InputError if the items cannot be converted to the type of the input without a loss."""
    spec = backbone.input_spec
    if spec.normalization is None:
        items = np.dtype(spec.graph_inputs[0].dtype)
        types = FLOAT_INPUTS if items.kind == "f" else INTEGER_INPUTS
        if port.type not in types:
            raise unexpected_inputs(backbone, [port], f"{items} items, which are converted to {', '.join(types)} only")
    elif port.type in INTEGER_INPUTS and not yields_integers(spec.normalization, port.type):
        raise unexpected_inputs(
            backbone,
            [port],
            f"pixels that are normalised to fractions (mean={spec.normalization.mean}, std={spec.normalization.std}). "
            f"Expected whole numbers that {port.type} holds: mean=(0, 0, 0) and std=(1/255, 1/255, 1/255) for 0 to 255",
        )
    elif port.type not in (*FLOAT_INPUTS, *INTEGER_INPUTS):
        raise unexpected_inputs(backbone, [port], f"images of {', '.join((*FLOAT_INPUTS, *INTEGER_INPUTS))}")


def yields_integers(normalization: Normalization, kind: str) -> bool:
    """Return whether all normalised pixels are integers that a type of ONNX holds."""
    limits = np.iinfo(kind.lower())
    levels = np.arange(256).reshape(-1, 1) / 255
    values = (levels - normalization.mean) / normalization.std
    are_whole = np.abs(values - np.rint(values)) < ROUNDING_ERROR
    are_held = (limits.min - 0.5 < values) & (values < limits.max + 0.5)
    return bool(np.all(are_whole & are_held))


def unexpected_inputs(backbone: OnnxBackbone, inputs: Sequence[OnnxInput], expected: str) -> InputError:
    """Return the error of a file whose inputs are not those of its input specification."""
    described = ", ".join(str(port) for port in inputs)
    return InputError(f"{backbone.path} has the inputs {described}; its input specification expects {expected}")


def has_channels_last(graph: OnnxGraph, spec: InputSpec) -> bool:
    """Return whether a file takes images of `spec` with the channels as the last axis."""
    axes = [size.dim_value or None for size in graph.data_type.shape.dim]
    return spec.normalization is not None and not fits(axes, list_item_shapes(spec)[0])


def has_channel_axis(graph: OnnxGraph, spec: InputSpec) -> bool:
    """Return whether a file has an axis for the one channel of its sounds."""
    return spec.kind == "audio" and len(graph.data_type.shape.dim) == 3 and len(spec.graph_inputs[0].axes) == 2


def complete_inputs(graph: OnnxGraph, spec: InputSpec, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return arrays in the types and the layout that the file expects, with zeros for its other inputs."""
    import onnx

    first = next(iter(arrays.values()))
    complete = {}
    for port in graph.inputs:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
        array = arrays.get(port.name, np.zeros_like(first))
        if has_channels_last(graph, spec):
            array = array.transpose(0, 2, 3, 1)  # (batch, 3, height, width) -> (batch, height, width, 3)
        if has_channel_axis(graph, spec):
            array = array[:, None]  # (batch, samples) -> (batch, 1, samples)
        if array.dtype.kind == "f" and dtype.kind != "f":
            array = np.rint(array)
        complete[port.name] = np.ascontiguousarray(array, dtype)
    return complete


def example_inputs(graph: OnnxGraph, spec: InputSpec, batch: int, tokens: int) -> dict[str, NDArray[Any]]:
    """Return inputs of the right shapes for the file itself; the number of tokens applies to text only."""
    if spec.item_shape is not None:
        items = np.zeros((batch, *spec.item_shape), np.float32)
        return complete_inputs(graph, spec, {graph.data: items})
    ids, *masks = spec.graph_inputs
    arrays = {ids.name: np.zeros((batch, tokens), np.int64)}
    for mask in masks:
        arrays[mask.name] = np.ones((batch, tokens), np.int64)
    return complete_inputs(graph, spec, arrays)
