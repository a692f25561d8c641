"""The inputs of an ONNX file: which one takes the items, and arrays for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import InputError
from ....models.from_onnx import OnnxInput, read_inputs, read_model
from .value_graph import OnnxGraph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ....models.backbone import OnnxBackbone
    from ....models.input_spec import InputSpec


def find_data_input(backbone: OnnxBackbone) -> str:
    """Return the input that takes the items; raise an InputError if the file does not fit its input specification."""
    spec = backbone.input_spec
    inputs = read_inputs(read_model(backbone.path))
    if spec.item_shape is None:
        wanted = [port.name for port in spec.graph_inputs]
        if {port.name for port in inputs}.issuperset(wanted):
            return wanted[0]
        raise unexpected_inputs(backbone, inputs, f"the inputs {', '.join(wanted)}")
    if len(inputs) == 1 and accepts_items(inputs[0], spec.item_shape):
        return inputs[0].name
    raise unexpected_inputs(backbone, inputs, f"one input of shape (batch, {', '.join(map(str, spec.item_shape))})")


def accepts_items(port: OnnxInput, item_shape: tuple[int, ...]) -> bool:
    """Return whether an input accepts batches of items of a shape."""
    if len(port.axes) != len(item_shape) + 1:
        return False
    return all(axis in (None, size) for axis, size in zip(port.axes[1:], item_shape, strict=True))


def unexpected_inputs(backbone: OnnxBackbone, inputs: Sequence[OnnxInput], expected: str) -> InputError:
    """Return the error of a file whose inputs are not those of its input specification."""
    described = ", ".join(f"{port.name} {port.axes}" for port in inputs)
    return InputError(f"{backbone.path} has the inputs {described}; its input specification expects {expected}")


def complete_inputs(graph: OnnxGraph, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return arrays in the types that the file expects, with zeros for its other inputs."""
    import onnx

    first = next(iter(arrays.values()))
    complete = {}
    for port in graph.inputs:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
        complete[port.name] = arrays.get(port.name, np.zeros_like(first)).astype(dtype)
    return complete


def example_inputs(graph: OnnxGraph, spec: InputSpec, batch: int, tokens: int) -> dict[str, NDArray[Any]]:
    """Return inputs of the right shapes for the file itself; the number of tokens applies to text only."""
    if spec.item_shape is not None:
        items = np.zeros((batch, *spec.item_shape), np.float32)
        return complete_inputs(graph, {graph.data: items})
    ids, mask = spec.graph_inputs
    zeros = np.zeros((batch, tokens), np.int64)
    return complete_inputs(graph, {ids.name: zeros, mask.name: np.ones_like(zeros)})
