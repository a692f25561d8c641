"""Signed weights of products of integers, made unsigned: the products stay the same, and cannot saturate.

Processors without VNNI add pairs of products of unsigned and signed bytes in 16 bits, which saturates: features of
quantised networks are then off by a fifth, and others than on a processor with VNNI. ONNX Runtime computes products of
unsigned bytes exactly on all of them (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html,
"When and why do I need to try U8U8?").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model_file import read_array

SHIFT = 128
OPERATION = "MatMulInteger"
"""Its inputs are a matrix, the weights, and the zero points of both."""


def shift_signed_weights(graph: Any) -> None:
    """Add 128 to the signed weights of integer products, and to their zero points, in place.

    Weights are left alone that another operation reads, or whose zero points are computed.
    """
    signed = {tensor.name: tensor for tensor in graph.initializer if is_signed(tensor)}
    products = [node for node in graph.node if node.op_type == OPERATION and node.input[1] in signed]
    read_by_others = {name for node in graph.node if node not in products for name in node.input}
    shifted: set[str] = set()
    for node in products:
        names = {node.input[1], *node.input[3:4]} - {""}
        if not names <= signed.keys() or not names.isdisjoint(read_by_others):
            continue
        for name in names - shifted:
            shift(signed[name])
        shifted |= names
        if len(names) == 1:
            add_zero_point(graph, node)


def is_signed(tensor: Any) -> bool:
    """Return whether a weight (``onnx.TensorProto``) is of signed bytes."""
    return bool(tensor.data_type == type(tensor).INT8)


def shift(tensor: Any) -> None:
    """Replace signed bytes by unsigned ones that are larger by 128."""
    import onnx

    values = (read_array(tensor).astype(np.int16) + SHIFT).astype(np.uint8)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def add_zero_point(graph: Any, node: Any) -> None:
    """Give a product the zero point of weights that had none."""
    import onnx

    name = f"{node.input[1]}/zero_point"
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(SHIFT, np.uint8), name))
    inputs = [*node.input, "", ""][:3]
    node.input[:] = [*inputs, name]
