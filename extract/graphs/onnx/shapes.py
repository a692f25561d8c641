"""The shapes of an ONNX graph's values: measured by running it on two batches of different sizes.

Rules for every operator, custom ones included, would be needed to infer them, and two runs tell for certain which axes
grow with the batch. Only the shapes are kept of what is computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ExportError, reason
from ....hardware import available_cores
from .value_graph import OnnxGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ....models.input_spec import InputSpec

BATCHES = (2, 3)
TOKENS = (5, 7)
TENSORS = {"tensor(float)": "FLOAT", "tensor(float16)": "FLOAT16", "tensor(double)": "DOUBLE"}
SUFFIX = "/topwork-shape"


@dataclass(frozen=True)
class Measured:
    """The shape of one value of floats.

    Parameters
    ----------
    type : str
        Of its elements, such as "FLOAT".
    sizes : tuple of int
        On the first of two batches.
    batch : int
        The size of that batch.
    shape : tuple of int or None, optional
        Of one item's value, None for its tokens; no shape at all if the value is not one of a batch's items.
    """

    type: str
    sizes: tuple[int, ...]
    batch: int
    shape: tuple[int | None, ...] | None = None


def measure(graph: OnnxGraph, spec: InputSpec) -> dict[str, Measured]:
    """Return the shapes of all values of floats.

    Raises
    ------
    ExportError
        If ONNX Runtime cannot run the file.
    """
    types = _types(graph.model)
    probe = _probe(graph.model, types)
    lengths = _tokens(spec)
    try:
        batches = BATCHES
        first, second = _sizes(graph, spec, _freed(probe), batches, lengths or TOKENS)
    except ExportError:
        if graph.fixed_batch is None:
            raise
        batches = (graph.fixed_batch, graph.fixed_batch)  # something in the file counts on it
        first, second = _sizes(graph, spec, probe, batches, lengths or TOKENS)
    return {
        name: Measured(types[name], sizes, batches[0], _item(sizes, second[name], batches, lengths))
        for name, sizes in first.items()
    }


def _item(
    first: tuple[int, ...], second: tuple[int, ...], batches: tuple[int, int], tokens: tuple[int, int] | None
) -> tuple[int | None, ...] | None:
    """Return the shape of one item: behind the batch the same sizes on both batches, or the tokens and one more."""
    if len(first) < 2 or (first[0], second[0]) != batches or 0 in first:
        return None
    if first[1:] == second[1:]:
        return first[1:]
    if len(first) == 3 and first[2] == second[2] and (first[1], second[1]) == tokens:
        return (None, first[2])
    return None


def _tokens(spec: InputSpec) -> tuple[int, int] | None:
    """Return the lengths of the texts in the two batches; None where lengths do not vary."""
    if spec.length_range is None:
        return None
    longest = spec.length_range[1]
    if longest >= TOKENS[1]:
        return TOKENS
    return max(1, longest - 1), longest


def _example(graph: OnnxGraph, spec: InputSpec, batch: int, tokens: int) -> dict[str, NDArray[Any]]:
    """Return inputs of the file itself, of the right shapes."""
    if spec.item_shape is not None:
        return fed(graph, {graph.data: np.zeros((batch, *spec.item_shape), np.float32)})
    ids, mask = spec.graph_inputs
    zeros = np.zeros((batch, tokens), np.int64)
    return fed(graph, {ids.name: zeros, mask.name: np.ones_like(zeros)})


def fed(graph: OnnxGraph, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return arrays in the types that the file wants, and zeros for its other inputs."""
    import onnx

    first, complete = next(iter(arrays.values())), {}
    for port in graph.inputs:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
        complete[port.name] = arrays.get(port.name, np.zeros_like(first)).astype(dtype)
    return complete


def _freed(model: Any) -> Any:
    """Return a copy whose batches may be of any size, where the file names one."""
    import onnx

    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    for port in freed.graph.input:
        if port.type.tensor_type.shape.dim:
            port.type.tensor_type.shape.dim[0].dim_param = "batch"
    del freed.graph.value_info[:]
    return freed


def _types(model: Any) -> dict[str, str]:
    """Return the type of each value of floats, as ONNX Runtime infers it."""
    session = open_untouched(with_outputs(model, (name for node in model.graph.node for name in node.output if name)))
    return {out.name: TENSORS[out.type] for out in session.get_outputs() if out.type in TENSORS}


def _probe(model: Any, names: Iterable[str]) -> Any:
    """Return the model with the shapes of some values as its only outputs."""
    import onnx

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    for name in names:
        probe.graph.node.append(onnx.helper.make_node("Shape", [name], [name + SUFFIX]))
        probe.graph.output.append(onnx.helper.make_tensor_value_info(name + SUFFIX, onnx.TensorProto.INT64, [None]))
    return probe


def _sizes(
    graph: OnnxGraph, spec: InputSpec, probe: Any, batches: tuple[int, int], lengths: tuple[int, int]
) -> list[dict[str, tuple[int, ...]]]:
    """Return the sizes of all values on two batches."""
    session = open_untouched(probe)
    names = [out.name for out in session.get_outputs()]
    found = []
    for batch, length in zip(batches, lengths, strict=True):
        try:
            shapes = session.run(names, _example(graph, spec, batch, length))
        except Exception as error:
            raise ExportError(f"ONNX Runtime cannot run the file: {reason(error)}") from error
        pairs = zip(names, shapes, strict=True)
        found.append({name.removesuffix(SUFFIX): tuple(int(n) for n in shape) for name, shape in pairs})
    return found


def with_outputs(model: Any, names: Iterable[str]) -> Any:
    """Return a copy of a model that returns some of its values, too."""
    import onnx

    more = onnx.ModelProto()
    more.CopyFrom(model)
    present = {port.name for port in more.graph.output}
    more.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in present)
    return more


def open_untouched(model: Any) -> Any:
    """Load a model without optimising it.

    Raises
    ------
    ExportError
        If ONNX Runtime cannot load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = available_cores()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot load the file: {reason(error)}") from error
