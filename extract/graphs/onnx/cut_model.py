"""The ONNX model of a cut through an ONNX file: preprocessing, what lies below the cut, pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ....models.from_onnx import INTEGER_INPUTS
from ....models.input_spec import GraphInput
from .inputs import has_channel_axis, has_channels_last
from .nodes import Nodes, append_normalization, append_pooling
from .trace import OnnxTrace, find_value
from .value_graph import list_subgraphs, names_read, prune

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ....models.input_spec import InputSpec, Normalization
    from ..cut import Cut

    Normalize = Callable[[Nodes, str, Normalization], str]

ORIGINAL_PREFIX = "network/"
"""Prefix of every name of the original file, so that none is that of an input or output of the new one."""


ITEM_PREFIX = "item/"
"""Prefix of the names of one item's inputs and outputs, where items are computed one by one."""
BATCH_PREFIX = "batch/"
"""Prefix of the names of inputs and outputs of a batch that holds one item."""


def append_image_normalization(nodes: Nodes, images: str, normalization: Normalization) -> str:
    """Append the normalisation of uint8 images ``(batch, height, width, 3)``, and return the name of the result.

    Its shape is ``(batch, 3, height, width)``.
    """
    pixels = nodes.cast(images, "FLOAT")
    channels_first = nodes.add("Transpose", pixels, perm=(0, 3, 1, 2))
    scaled = nodes.add("Div", channels_first, nodes.number(255.0))
    centred = nodes.add("Sub", scaled, nodes.per_channel(normalization.mean))
    return nodes.add("Div", centred, nodes.per_channel(normalization.std))


def cut_model(traced: OnnxTrace, cut: Cut, normalize: Normalize = append_image_normalization) -> Any:
    """Return the ``onnx.ModelProto`` of a cut; `normalize` appends the normalisation of images."""
    spec = cut.backbone.input_spec
    nodes = Nodes(traced.graph.opset)
    values = [find_value(traced, layer.name).name for layer, _ in cut.chosen]
    lower_part = prune(traced.graph.model.graph, values)
    if spec.lengths_vary:
        read = {name for node in lower_part.node for name in names_read(node)}
        append_text_entry(nodes, traced, spec, read=read)
    else:
        append_entry(nodes, traced, spec, normalize=normalize)
    add_prefix(lower_part)
    nodes.nodes.extend(lower_part.node)
    append_features(nodes, cut, values)
    if traced.graph.mixes_items(spec):
        nodes = compute_items_alone(nodes, cut)
    return make_model(traced.graph.model, cut, nodes, lower_part)


def append_text_entry(nodes: Nodes, traced: OnnxTrace, spec: InputSpec, *, read: set[str]) -> None:
    """Append the original's inputs of a text model; those that are read but not in the specification are zeros."""
    import onnx

    names = [port.name for port in spec.graph_inputs]
    for port in traced.graph.inputs:
        value = port.name
        if value not in names:
            if value not in read:
                continue
            zero = onnx.helper.make_tensor("zero", onnx.TensorProto.INT64, [1], [0])
            shape = nodes.add("Shape", names[0])
            value = nodes.add("ConstantOfShape", shape, value=zero)
        nodes.add("Cast", value, output=ORIGINAL_PREFIX + port.name, to=port.type.tensor_type.elem_type)


def append_entry(nodes: Nodes, traced: OnnxTrace, spec: InputSpec, *, normalize: Normalize) -> None:
    """Append the original's input of images, sounds or arrays: normalised, in the layout and type that it expects."""
    import onnx

    (port,) = spec.graph_inputs
    value = port.name
    if spec.normalization is not None:
        value = normalize(nodes, value, spec.normalization)
    graph = traced.graph
    if has_channels_last(graph, spec):
        value = nodes.add("Transpose", value, perm=(0, 2, 3, 1))
    if has_channel_axis(graph, spec):
        value = nodes.add("Reshape", value, nodes.integers(0, 1, -1))
    element_type = onnx.TensorProto.DataType.Name(graph.data_type.elem_type)
    if spec.normalization is not None and element_type in INTEGER_INPUTS:
        value = nodes.add("Floor", nodes.add("Add", value, nodes.number(0.5)))  # round, in every opset
    nodes.add("Cast", value, output=ORIGINAL_PREFIX + graph.data, to=graph.data_type.elem_type)


def add_prefix(graph: Any) -> None:
    """Put the prefix before every name of a graph and of the graphs inside it."""
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [name and ORIGINAL_PREFIX + name for name in names]
        node.name = node.name and ORIGINAL_PREFIX + node.name
        for subgraph in list_subgraphs(node):
            add_prefix(subgraph)
    sparse = [weights.values for weights in graph.sparse_initializer]
    for part in (*graph.initializer, *sparse, *graph.input, *graph.output, *graph.value_info):
        part.name = ORIGINAL_PREFIX + part.name


def append_mask(nodes: Nodes, spec: InputSpec) -> str:
    """Return the name of the mask of texts, ones where every token counts; for other inputs a name without meaning."""
    import onnx

    name = spec.graph_inputs[-1].name
    if spec.has_mask or not spec.lengths_vary:
        return name
    one = onnx.helper.make_tensor("one", onnx.TensorProto.INT64, [1], [1])
    return nodes.add("ConstantOfShape", nodes.add("Shape", name), value=one)


def append_features(nodes: Nodes, cut: Cut, values: Sequence[str]) -> None:
    """Append the cut's outputs: pooled, and normalised if it asks for that, from the original's values."""
    mask = append_mask(nodes, cut.backbone.input_spec)
    for name, value, (layer, pool) in zip(cut.names, values, cut.chosen, strict=True):
        floats = nodes.cast(ORIGINAL_PREFIX + value, "FLOAT")
        features = append_pooling(nodes, floats, layer, pool=pool, mask=mask)
        if cut.normalize:
            features = append_normalization(nodes, features)
        nodes.add("Identity", features, output=name)


def compute_items_alone(nodes: Nodes, cut: Cut) -> Nodes:
    """Return nodes that compute each item of a batch alone, a text without its padding, as the given nodes do.

    Then items do not depend on each other, though the file computes something over a whole batch.
    """
    import onnx

    spec = cut.backbone.input_spec
    inputs = [declare_item(port) for port in spec.graph_inputs]
    outputs = [
        onnx.helper.make_tensor_value_info(ITEM_PREFIX + name, onnx.TensorProto.FLOAT, [None]) for name in cut.names
    ]

    # Make a batch of the item, and features of the batch's.
    entry = Nodes(nodes.opset, ITEM_PREFIX)
    for port in spec.graph_inputs:
        item = ITEM_PREFIX + port.name
        if spec.has_mask:
            mask = ITEM_PREFIX + spec.graph_inputs[-1].name
            length = entry.add("Max", entry.reduce("ReduceSum", mask, (0,), keepdims=True), entry.integers(1))
            item = entry.add("Slice", item, entry.integers(0), length)
        sizes = [-1 if isinstance(axis, str) else axis for axis in port.axes[1:]]
        entry.add("Reshape", item, entry.integers(1, *sizes), output=BATCH_PREFIX + port.name)
    names = [port.name for port in spec.graph_inputs]
    add_batch_prefix(nodes, {*names, *cut.names})
    for name in cut.names:
        nodes.add("Reshape", BATCH_PREFIX + name, nodes.integers(-1), output=ITEM_PREFIX + name)

    # Run that on each item.
    body = onnx.helper.make_graph([*entry.nodes, *nodes.nodes], "item", inputs=inputs, outputs=outputs)
    outer = Nodes(nodes.opset)
    outer.constants.extend([*entry.constants, *nodes.constants])
    outer.nodes.append(onnx.helper.make_node("Scan", names, cut.names, body=body, num_scan_inputs=len(names)))
    return outer


def add_batch_prefix(nodes: Nodes, names: set[str]) -> None:
    """Put the prefix before some names, as a graph inside another must not define a name of the other again."""
    for node in nodes.nodes:
        for names_of_node in (node.input, node.output):
            names_of_node[:] = [BATCH_PREFIX + name if name in names else name for name in names_of_node]


def declare_item(port: GraphInput) -> Any:
    """Return the declaration of one item of a graph's input, an ``onnx.ValueInfoProto``."""
    return declare_input(GraphInput(ITEM_PREFIX + port.name, port.dtype, port.axes[1:]))


def make_model(original: Any, cut: Cut, nodes: Nodes, lower_part: Any) -> Any:
    """Return the model of all nodes, with the weights, operators and local functions of the original."""
    import onnx

    inputs = [declare_input(port) for port in cut.backbone.input_spec.graph_inputs]
    float32 = onnx.TensorProto.FLOAT
    outputs = [onnx.helper.make_tensor_value_info(name, float32, ["batch", None]) for name in cut.names]
    weights = [*lower_part.initializer, *nodes.constants]
    graph = onnx.helper.make_graph(nodes.nodes, "cut", inputs=inputs, outputs=outputs, initializer=weights)
    graph.sparse_initializer.extend(lower_part.sparse_initializer)
    model = onnx.ModelProto(ir_version=original.ir_version, producer_name="topwork")
    model.graph.CopyFrom(graph)
    model.opset_import.extend(original.opset_import)
    model.functions.extend(original.functions)
    return model


def declare_input(port: GraphInput) -> Any:
    """Return the declaration of a graph's input, an ``onnx.ValueInfoProto``."""
    import onnx

    element_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
    return onnx.helper.make_tensor_value_info(port.name, element_type, list(port.axes))
