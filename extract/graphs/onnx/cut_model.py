"""The ONNX model of a cut through an ONNX file: preprocessing, what lies below the cut, pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....models.image_spec import ImageSpec
from ....models.text_spec import TextSpec
from ...preprocess import image, tensor
from .nodes import Nodes
from .pooling_nodes import append_normalization, append_pooling
from .trace import OnnxTrace, value_of
from .value_graph import OnnxGraph, names_read, pruned, subgraphs

if TYPE_CHECKING:
    from ....models.input_spec import InputSpec
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
    import onnx

    info, types = onnx.helper.make_tensor_value_info, onnx.TensorProto
    if isinstance(spec, TextSpec):
        for port in graph.inputs:
            if port.name in read and port.name not in spec.inputs:
                _append_zeros(nodes, spec.inputs[0], NETWORK + port.name)
        for name in spec.inputs:
            nodes.add("Identity", name, output=NETWORK + name)
        return [info(name, types.INT64, ["batch", "sequence"]) for name in spec.inputs]
    if isinstance(spec, ImageSpec):
        value = _append_normalized(nodes, spec)
        inputs = [info(image.INPUT_NAME, types.UINT8, ["batch", *spec.size, 3])]
    else:
        value = tensor.INPUT_NAME
        inputs = [info(tensor.INPUT_NAME, types.FLOAT, ["batch", *spec.shape])]
    nodes.add("Cast", value, output=NETWORK + graph.data, to=graph.data_type.elem_type)
    return inputs


def _append_zeros(nodes: Nodes, like: str, output: str) -> None:
    """Append int64 zeros of the shape of the token ids."""
    import onnx

    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.INT64, [1], [0])
    nodes.add("ConstantOfShape", nodes.add("Shape", like), output=output, value=zero)


def _append_normalized(nodes: Nodes, spec: ImageSpec) -> str:
    """Append the normalisation of uint8 images ``(batch, height, width, 3)``."""
    pixels = nodes.cast(image.INPUT_NAME, "FLOAT")
    pixels = nodes.add("Transpose", pixels, perm=(0, 3, 1, 2))  # -> (batch, 3, height, width)
    scaled = nodes.add("Div", pixels, nodes.floats(255.0))
    return nodes.add("Div", nodes.add("Sub", scaled, nodes.floats(*spec.mean)), nodes.floats(*spec.std))
