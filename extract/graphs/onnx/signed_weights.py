"""Signed weights of products of integers, made unsigned: the products stay the same, and cannot saturate.

Processors without VNNI add pairs of products of unsigned and signed bytes in 16 bits, which saturates: features of a
small quantised network were off by a fifth, and others than on a processor with VNNI. ONNX Runtime computes products of
unsigned bytes exactly on all of them (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html,
"When and why do I need to try U8U8?").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..model_file import read_array

SHIFT = 128
PRODUCT = "MatMulInteger"
"""Its inputs are a matrix, the weights, and the zero points of both."""
UNSIGNED_SOURCE = "DynamicQuantizeLinear"
"""Operation whose output, a quantised matrix, is unsigned by its specification."""


def shift_signed_weights(graph: Any) -> None:
    """Add 128 to the signed weights of dynamically quantised products, and to their zero points, in place.

    Weights are left alone that anything else reads, or whose zero points are computed; so are graphs with branches.
    """
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return
    inputs = {port.name for port in graph.input}  # old files list weights among them, with their types
    signed = {tensor.name: tensor for tensor in graph.initializer if is_signed(tensor) and tensor.name not in inputs}
    unsigned = {node.output[0] for node in graph.node if node.op_type == UNSIGNED_SOURCE}
    products = [
        node
        for node in graph.node
        if node.op_type == PRODUCT and node.input[0] in unsigned and set(list_weights(node)) <= signed.keys()
    ]
    products = keep_sole_readers(products, graph)
    for name in {name for node in products for name in list_weights(node)}:
        shift(signed[name])
    for node in products:
        if len(list_weights(node)) == 1:
            add_zero_point(graph, node)


def list_weights(product: Any) -> list[str]:
    """Return the names of the weights of a product, and of their zero points if they have some."""
    return [name for name in (*product.input[1:2], *product.input[3:4]) if name]


def keep_sole_readers(products: list[Any], graph: Any) -> list[Any]:
    """Return the products whose weights and zero points are read by such products only, as weights or zero points."""
    while True:
        own = {id(node) for node in products}
        read_otherwise = {port.name for port in graph.output}
        for node in graph.node:
            read_otherwise.update(list_others(node) if id(node) in own else node.input)
        kept = [node for node in products if read_otherwise.isdisjoint(list_weights(node))]
        if len(kept) == len(products):
            return kept
        products = kept


def list_others(product: Any) -> Iterable[str]:
    """Return the names of what a product reads beside its weights and their zero points."""
    return [*product.input[:1], *product.input[2:3]]


def is_signed(tensor: Any) -> bool:
    """Return whether a weight (``onnx.TensorProto``) is of signed bytes."""
    return bool(tensor.data_type == type(tensor).INT8)


def shift(tensor: Any) -> None:
    """Replace signed bytes by unsigned ones that are larger by 128."""
    import onnx

    values = (read_array(tensor).astype(np.int16) + SHIFT).astype(np.uint8)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def add_zero_point(graph: Any, product: Any) -> None:
    """Give a product the zero point of weights that had none."""
    import onnx

    name = f"{product.input[1]}/zero_point"
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(SHIFT, np.uint8), name))
    inputs = [*product.input, "", ""][:3]
    product.input[:] = [*inputs, name]
