"""The shapes of an ONNX graph's values: measured by running it on two batches of different sizes.

Inferring them would need rules for every operator, custom ones included, and two runs show for certain which axes grow
with the batch. Only the shapes are kept of what is computed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....errors import ExportError, reason
from ....hardware import available_cores
from ....models.from_onnx import is_quantized
from ..model_file import is_outside, read_array
from .inputs import example_inputs
from .value_graph import OnnxGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ....models.input_spec import InputSpec

    Sizes = tuple[int, ...]

PROBE_BATCHES = (2, 3)
"""Sizes of the two batches."""
PROBE_TOKENS = (5, 7)
"""Numbers of tokens of the texts in the two batches."""
TENSOR_TYPES = {"tensor(float)": "FLOAT", "tensor(float16)": "FLOAT16", "tensor(double)": "DOUBLE"}
SHAPE_SUFFIX = "/topwork-shape"


@dataclass(frozen=True)
class MeasuredShape:
    """The shape of one value of floats.

    `type` is ONNX's name of its elements, such as "FLOAT"; `sizes` are those on the first of two batches, which has
    `batch` items. `shape` is that of one item's value, with None for its tokens, and is None itself if the value has no
    row for each item.
    """

    type: str
    sizes: tuple[int, ...]
    batch: int
    shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class ProbeSizes:
    """Sizes of the two batches, and the numbers of tokens of their texts."""

    batches: tuple[int, int]
    tokens: tuple[int, int]


def measure_shapes(graph: OnnxGraph, spec: InputSpec) -> dict[str, MeasuredShape]:
    """Return the shapes of all values of floats by name; raise an ExportError if ONNX Runtime cannot run the file."""
    types = infer_float_types(graph.model)
    shape_model = make_shape_model(graph.model, types)
    probes = ProbeSizes(PROBE_BATCHES, choose_probe_tokens(spec))
    try:
        first, second = run_probes(graph, spec, free_batch(shape_model), probes=probes)
    except ExportError:
        if graph.fixed_batch is None:
            raise
        # Something in the file depends on the fixed batch size.
        probes = ProbeSizes((graph.fixed_batch, graph.fixed_batch), probes.tokens)
        first, second = run_probes(graph, spec, shape_model, probes=probes)
    measured = {}
    for name, sizes in first.items():
        shape = find_item_shape(sizes, second[name], probes)
        measured[name] = MeasuredShape(types[name], sizes, probes.batches[0], shape=shape)
    return measured


def find_item_shape(first: Sizes, second: Sizes, probes: ProbeSizes) -> tuple[int | None, ...] | None:
    """Return the shape of one item's value, with None for its tokens, from the sizes on two batches.

    Behind the batch stand the same sizes on both batches, or the number of tokens and one more size.
    """
    if len(first) < 2 or 0 in first or (first[0], second[0]) != probes.batches:
        return None
    if first[1:] == second[1:]:
        return first[1:]
    if len(first) == 3 and first[2] == second[2] and (first[1], second[1]) == probes.tokens:
        return (None, first[2])
    return None


def choose_probe_tokens(spec: InputSpec) -> tuple[int, int]:
    """Return the numbers of tokens in the two batches, at most as many as the model takes; 0 if it takes no text."""
    if spec.length_range is None:
        return (0, 0)
    _, longest = spec.length_range
    if longest >= PROBE_TOKENS[1]:
        return PROBE_TOKENS
    return max(1, longest - 1), longest


def free_batch(model: Any) -> Any:
    """Return a copy whose batches may be of any size, where the file fixes one."""
    freed = copy.deepcopy(model)
    for port in freed.graph.input:
        if port.type.tensor_type.shape.dim:
            port.type.tensor_type.shape.dim[0].dim_param = "batch"
    del freed.graph.value_info[:]
    return freed


def infer_float_types(model: Any) -> dict[str, str]:
    """Return the type of each value of floats, as ONNX Runtime infers it."""
    names = [name for node in model.graph.node for name in node.output if name]
    session = open_unoptimized(add_outputs(model, names))
    return {output.name: TENSOR_TYPES[output.type] for output in session.get_outputs() if output.type in TENSOR_TYPES}


def make_shape_model(model: Any, names: Iterable[str]) -> Any:
    """Return the model with the shapes of some values as its only outputs."""
    import onnx

    shape_model = copy.deepcopy(model)
    del shape_model.graph.output[:]
    for name in names:
        output = name + SHAPE_SUFFIX
        shape_model.graph.node.append(onnx.helper.make_node("Shape", [name], [output]))
        port = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.INT64, [None])
        shape_model.graph.output.append(port)
    return shape_model


def run_probes(graph: OnnxGraph, spec: InputSpec, shape_model: Any, *, probes: ProbeSizes) -> list[dict[str, Sizes]]:
    """Return the sizes of all values on two batches."""
    session = open_unoptimized(shape_model)
    sizes_of_batches = []
    for batch, tokens in zip(probes.batches, probes.tokens, strict=True):
        inputs = example_inputs(graph, spec, batch=batch, tokens=tokens)
        sizes_of_batches.append(run_shape_model(session, inputs))
    return sizes_of_batches


def run_shape_model(session: Any, inputs: dict[str, NDArray[Any]]) -> dict[str, Sizes]:
    """Return the sizes of all values on one batch; raise an ExportError if ONNX Runtime cannot run the file."""
    outputs = [output.name for output in session.get_outputs()]
    try:
        shapes = session.run(outputs, inputs)
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot run the file: {reason(error)}") from error
    names = [output.removesuffix(SHAPE_SUFFIX) for output in outputs]
    return {name: tuple(shape.tolist()) for name, shape in zip(names, shapes, strict=True)}


def add_outputs(model: Any, names: Iterable[str]) -> Any:
    """Return a copy of a model that also returns some of its values."""
    import onnx

    extended = copy.deepcopy(model)
    present = {port.name for port in extended.graph.output}
    for name in dict.fromkeys(names):
        if name not in present:
            extended.graph.output.append(onnx.ValueInfoProto(name=name))
    return extended


def open_unoptimized(model: Any) -> Any:
    """Load a model without optimising it, unless it is quantised; raise an ExportError if ONNX Runtime cannot.

    How a quantised model rounds depends on the optimisation, and its makers run it optimised.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = available_cores()
    if not is_quantized(model):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    outside = [tensor for tensor in model.graph.initializer if is_outside(tensor)]
    arrays = [onnxruntime.OrtValue.ortvalue_from_numpy(read_array(tensor)) for tensor in outside]
    options.add_external_initializers([tensor.name for tensor in outside], arrays)
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot load the file: {reason(error)}") from error
