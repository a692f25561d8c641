"""The ONNX model of a cut through an ONNX file: preprocessing, what lies below the cut, pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .nodes import Nodes
from .pooling_nodes import append_normalization, append_pooling
from .trace import OnnxTrace, value_of
from .value_graph import OnnxGraph, names_read, pruned, subgraphs

if TYPE_CHECKING:
    from ....models.input_spec import GraphInput, InputSpec, Normalization
    from ..cut import Cut

NETWORK = "network/"
"""Before every name of the original file, so that none is that of an input or output of the new one."""


def cut_model(trace: OnnxTrace, cut: Cut) -> Any:
    """Return the ONNX model of a cut.

    Parameters
    ----------
    trace : OnnxTrace
    cut : Cut
    """
    import onnx

    spec, nodes = cut.backbone.input_spec, Nodes(trace.graph.opset)
    wanted = [value_of(trace, layer.name).name for layer, _ in cut.chosen]
    body = pruned(trace.graph.model.graph, wanted)
    inputs = _append_entry(nodes, trace.graph, spec, {name for node in body.node for name in names_read(node)})
    _rename(body)
    nodes.nodes.extend(body.node)
    for name, value, (layer, pool) in zip(cut.names, wanted, cut.chosen, strict=True):
        features = nodes.cast(NETWORK + value, "FLOAT")
        features = append_pooling(nodes, features, layer, pool, inputs[-1].name)
        nodes.add("Identity", append_normalization(nodes, features) if cut.normalize else features, output=name)
    outputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", None]) for n in cut.names]
    graph = onnx.helper.make_graph(nodes.nodes, "cut", inputs, outputs)
    graph.initializer.extend((*body.initializer, *nodes.constants))
    graph.sparse_initializer.extend(body.sparse_initializer)
    return _model_like(trace.graph.model, graph)


def _model_like(original: Any, graph: Any) -> Any:
    """Return a model with the operators and local functions of another."""
    import onnx

    model = onnx.ModelProto(ir_version=original.ir_version, producer_name="topwork")
    model.graph.CopyFrom(graph)
    model.opset_import.extend(original.opset_import)
    model.functions.extend(original.functions)
    return model


def _rename(graph: Any) -> None:
    """Put the prefix before every name of a graph and of the graphs inside it."""
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [name and NETWORK + name for name in names]
        node.name = node.name and NETWORK + node.name
        for inner in subgraphs(node):
            _rename(inner)
    sparse = [tensor.values for tensor in graph.sparse_initializer]
    for part in (*graph.initializer, *sparse, *graph.input, *graph.output, *graph.value_info):
        part.name = NETWORK + part.name


def _append_entry(nodes: Nodes, graph: OnnxGraph, spec: InputSpec, read: set[str]) -> list[Any]:
    """Append what turns the new graph's inputs into the original's, and return the new ones."""
    names = [port.name for port in spec.graph_inputs]
    if spec.lengths_vary:
        for port in graph.inputs:
            if port.name in read and port.name not in names:
                _append_zeros(nodes, names[0], NETWORK + port.name)
        for name in names:
            nodes.add("Identity", name, output=NETWORK + name)
    else:
        (value,) = names
        if spec.normalization is not None:
            value = _append_normalized(nodes, value, spec.normalization)
        nodes.add("Cast", value, output=NETWORK + graph.data, to=graph.data_type.elem_type)
    return [_value_info(port) for port in spec.graph_inputs]


def _value_info(port: GraphInput) -> Any:
    """Return the declaration of a graph's input."""
    import onnx

    element_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
    return onnx.helper.make_tensor_value_info(port.name, element_type, list(port.axes))


def _append_zeros(nodes: Nodes, like: str, output: str) -> None:
    """Append int64 zeros of the shape of the token ids."""
    import onnx

    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.INT64, [1], [0])
    nodes.add("ConstantOfShape", nodes.add("Shape", like), output=output, value=zero)


def _append_normalized(nodes: Nodes, images: str, normalization: Normalization) -> str:
    """Append the normalisation of uint8 images ``(batch, height, width, 3)``."""
    pixels = nodes.cast(images, "FLOAT")
    pixels = nodes.add("Transpose", pixels, perm=(0, 3, 1, 2))  # -> (batch, 3, height, width)
    scaled = nodes.add("Div", pixels, nodes.floats(255.0))
    centred = nodes.add("Sub", scaled, nodes.floats(*normalization.mean))
    return nodes.add("Div", centred, nodes.floats(*normalization.std))
