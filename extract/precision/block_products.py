"""Matrix products in 8 bits: weights and activations in blocks along the sum, each block with a scale of its own.

Activations are rounded as they come. Where some of their features are far larger than others, these take the digits of
their whole block; so a part of their size is moved into the weights first (SmoothQuant, Xiao et al. 2023,
https://arxiv.org/abs/2211.10438). The rounding of a weight is made up for by those that are rounded after it (GPTQ,
Frantar et al. 2023, https://arxiv.org/abs/2210.17323). The operation is ONNX Runtime's ``MatMulNBits``; OpenVINO reads
it, too, and was the faster where it was measured (docs/decisions/0020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graphs.model_file import load_model
from ..runtime.openvino_runtime import PRODUCT_BLOCK_SIZE
from ..runtime.session import open_session
from .int8 import HEAVY_OPERATIONS, iterate_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..graphs.exported_graph import ExportedGraph
    from ..preprocess.preprocessor import Prepared

BITS = 8
STRENGTH = 0.5
"""Power of the sizes of activations that is moved into the weights."""
DAMPING = 0.01
"""What is added to the diagonal of a Gram matrix, as a share of its mean."""
ACCURACY_LEVEL = 4
"""ONNX Runtime's name for activations in 8 bits."""
LARGEST_CODE = 127
ZERO_CODE = 128
"""What stands for zero."""
ROWS_AT_ONCE = 128
"""Rows of weights after which the changes of all further rows are made up for."""
MAX_GRAM_BYTES = 2**30
"""Memory of all Gram matrices; the weights of the widest products, beyond it, are rounded as they are."""
SMALLEST_SIZE = 1e-5
SMALLEST_SCALE = 1e-12
MAX_DIVISOR = 1e3
STATISTICS = ("shape", "flat", "absolute", "sizes", "gram")
"""Names of the values that are computed from one, up to its statistics."""
MIN_SHARE = 0.5
"""Share of the weights of heavy operations that products have in a graph that consists of them."""
DOMAIN = "com.microsoft"
OPSET_OF_AXES_AS_INPUT = 18
"""Since this opset the axes of a reduction are an input."""


@dataclass(frozen=True, eq=False)
class Activations:
    """What is known of the values that are multiplied by weights, by their names.

    `sizes` are the largest absolute entries of each feature, shape (n_features,), `grams` the sums of products of two
    features, shape (n_features, n_features), where there was room for them.
    """

    sizes: dict[str, NDArray[np.float32]] = field(repr=False)
    grams: dict[str, NDArray[np.float32]] = field(repr=False)

    @property
    def facts(self) -> list[Any]:
        """What tells one rounding of the same weights from another."""
        sizes = {name: largest.tolist() for name, largest in self.sizes.items()}
        diagonals = {name: gram.diagonal().tolist() for name, gram in self.grams.items()}
        return [BITS, PRODUCT_BLOCK_SIZE, STRENGTH, DAMPING, sizes, diagonals]


def consists_of_products(graph: ExportedGraph) -> bool:
    """Return whether most weights of the heavy operations of a graph are those of products that can be quantised."""
    model = load_model(graph.path)
    counts = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    products = {node.input[1] for node in list_products(model)}
    heavy = {name for node in model.graph.node if node.op_type in HEAVY_OPERATIONS for name in node.input[1:2]}
    total = sum(counts.get(name, 0) for name in heavy)
    return total > 0 and sum(counts[name] for name in products) >= MIN_SHARE * total


def list_products(model: Any) -> list[Any]:
    """Return the nodes of an ``onnx.ModelProto`` that multiply by a matrix of weights whose rows fill blocks."""
    matrices = {
        tensor.name
        for tensor in model.graph.initializer
        if len(tensor.dims) == 2 and tensor.dims[0] % PRODUCT_BLOCK_SIZE == 0
    }
    return [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in matrices]


def measure_activations(graph: ExportedGraph, items: Sequence[Prepared]) -> Activations:
    """Find what is to be known of the values that are multiplied by weights, on items, each computed alone."""
    model = load_model(graph.path)
    n_rows = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if tensor.dims}
    widths = {node.input[0]: n_rows[node.input[1]] for node in list_products(model)}
    outputs = add_statistics(model, widths)
    session = open_session(model.SerializeToString(), "cpu")
    found = Activations({}, {})
    for feed in iterate_batches(graph, items, size=1):  # without padding
        values = session.run(feed)[-len(outputs) :]  # behind the features
        for (name, is_gram), value in zip(outputs, values, strict=True):
            if is_gram:
                found.grams[name] = found.grams[name] + value if name in found.grams else value
            else:
                found.sizes[name] = np.maximum(found.sizes.get(name, value), value)
    return found


def add_statistics(model: Any, widths: Mapping[str, int]) -> list[tuple[str, bool]]:
    """Add outputs with the sizes and, as far as there is room, the Gram matrices of values, behind the other outputs.

    Returned are for each the name of the value, and whether it is a Gram matrix.
    """
    from onnx import TensorProto, helper, numpy_helper

    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    first_axis = "topwork_first_axis"
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), first_axis))
    outputs: list[tuple[str, bool]] = []
    room = MAX_GRAM_BYTES
    for number, (name, width) in enumerate(sorted(widths.items(), key=lambda pair: pair[1])):
        shape, flat, absolute, sizes, gram = (f"topwork_{what}_{number}" for what in STATISTICS)
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1, width]), shape))
        reduction: dict[str, Any] = {"inputs": [absolute, first_axis]}
        if opset < OPSET_OF_AXES_AS_INPUT:
            reduction = {"inputs": [absolute], "axes": [0]}
        model.graph.node.append(helper.make_node("Reshape", [name, shape], [flat]))
        model.graph.node.append(helper.make_node("Abs", [flat], [absolute]))
        model.graph.node.append(helper.make_node("ReduceMax", outputs=[sizes], keepdims=0, **reduction))
        model.graph.output.append(helper.make_tensor_value_info(sizes, TensorProto.FLOAT, [width]))
        outputs.append((name, False))
        room -= 4 * width**2
        if room >= 0:
            model.graph.node.append(helper.make_node("Gemm", [flat, flat], [gram], transA=1))
            model.graph.output.append(helper.make_tensor_value_info(gram, TensorProto.FLOAT, [width, width]))
            outputs.append((name, True))
    return outputs


def quantize_products(model: Any, found: Activations, kept: Sequence[str]) -> Any:
    """Return an ``onnx.ModelProto`` with its matrix products in 8 bits, except for those `kept` in float32."""
    from onnx import NodeProto, TensorProto, helper, numpy_helper

    products: dict[str, list[Any]] = {}
    for node in list_products(model):
        if node.name not in kept:
            products.setdefault(node.input[0], []).append(node)
    divisions: dict[str, Any] = {}  # by the name of the first product that reads them
    new_weights = []
    for number, (name, nodes) in enumerate(products.items()):
        weights = [read_matrix(model, node.input[1]) for node in nodes]
        divisor = compute_divisor(found.sizes[name], weights)
        gram = found.grams.get(name)
        scaled_gram = None if gram is None else gram.astype(np.float64) / np.outer(divisor, divisor)
        inverse, divided = f"topwork_inverse_{number}", f"topwork_divided_{number}"
        new_weights.append(numpy_helper.from_array(1 / divisor, inverse))
        divisions[nodes[0].name] = helper.make_node("Mul", [name, inverse], [divided], name=divided)
        for node, matrix in zip(nodes, weights, strict=True):
            codes, scales = round_weights(np.asarray(matrix * divisor[:, None], np.float64), scaled_gram)
            arrays = (pack_codes(codes), scales.T.astype(np.float32).ravel())
            names = (f"{node.name}_codes", f"{node.name}_scales")
            new_weights += [numpy_helper.from_array(array, own) for array, own in zip(arrays, names, strict=True)]
            become_blocked(node, [divided, *names], matrix.shape)
    ordered: list[Any] = []
    for node in model.graph.node:
        ordered += [divisions[node.name], node] if node.name in divisions else [node]
    nodes_left = [NodeProto.FromString(node.SerializeToString()) for node in ordered]
    used = {name for node in nodes_left for name in node.input}
    tensors = [tensor for tensor in (*model.graph.initializer, *new_weights) if tensor.name in used]
    tensors_left = [TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes_left)
    model.graph.initializer.extend(tensors_left)
    if all(entry.domain != DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model


def become_blocked(node: Any, inputs: Sequence[str], shape: tuple[int, ...]) -> None:
    """Turn a ``MatMul`` into a ``MatMulNBits`` of weights ``(n_features, n_outputs)`` that were packed."""
    from onnx import helper

    node.op_type = "MatMulNBits"
    node.domain = DOMAIN
    del node.input[:]
    node.input.extend(inputs)
    attributes = {"K": shape[0], "N": shape[1], "bits": BITS, "block_size": PRODUCT_BLOCK_SIZE}
    for name, value in (attributes | {"accuracy_level": ACCURACY_LEVEL}).items():
        node.attribute.append(helper.make_attribute(name, value))


def read_matrix(model: Any, name: str) -> NDArray[np.float32]:
    """Return the weights ``(n_features, n_outputs)`` of a name."""
    from onnx import numpy_helper

    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return np.asarray(numpy_helper.to_array(tensor), np.float32)


def compute_divisor(sizes: NDArray[np.float32], weights: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return what activations are divided by, and weights ``(n_features, n_outputs)`` multiplied: (n_features,)."""
    size_of_weights = np.max([np.abs(matrix).max(axis=1) for matrix in weights], axis=0)
    powers = np.maximum(sizes, SMALLEST_SIZE) ** STRENGTH, np.maximum(size_of_weights, SMALLEST_SIZE) ** (1 - STRENGTH)
    return np.asarray(np.clip(powers[0] / powers[1], 1 / MAX_DIVISOR, MAX_DIVISOR), np.float32)


def round_weights(
    weights: NDArray[np.float64], gram: NDArray[np.float64] | None
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Round weights ``(n_features, n_outputs)``; return codes of that shape, and scales ``(n_blocks, n_outputs)``.

    With the Gram matrix of the features, further rows make up for the rounding of those before them.
    """
    weights = weights.copy()
    n_features = len(weights)
    codes = np.zeros(weights.shape, np.int16)
    scales = np.zeros((n_features // PRODUCT_BLOCK_SIZE, weights.shape[1]))
    factor = np.eye(n_features) if gram is None else factorise_inverse(gram)
    for first in range(0, n_features, ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, n_features)
        errors = np.zeros((last - first, weights.shape[1]))
        for row in range(first, last):
            block = row // PRODUCT_BLOCK_SIZE
            if row % PRODUCT_BLOCK_SIZE == 0:
                largest = np.abs(weights[row : row + PRODUCT_BLOCK_SIZE]).max(axis=0)
                scales[block] = np.maximum(largest / LARGEST_CODE, SMALLEST_SCALE)
            codes[row] = np.clip(np.round(weights[row] / scales[block]), -ZERO_CODE, LARGEST_CODE)
            error = (weights[row] - codes[row] * scales[block]) / factor[row, row]
            errors[row - first] = error
            weights[row + 1 : last] -= np.outer(factor[row, row + 1 : last], error)
        weights[last:] -= factor[first:last, last:].T @ errors
    return codes, scales


def factorise_inverse(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper triangular matrix whose transpose times itself is the inverse of a Gram matrix."""
    damped = gram + np.diag(np.full(len(gram), DAMPING * gram.diagonal().mean() + SMALLEST_SCALE))
    return np.linalg.cholesky(np.linalg.inv(damped)).T


def pack_codes(codes: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return codes ``(n_features, n_outputs)`` as ``MatMulNBits`` reads them: ``(n_outputs, n_blocks, block_size)``."""
    return (codes.T + ZERO_CODE).astype(np.uint8).reshape(codes.shape[1], -1, PRODUCT_BLOCK_SIZE)
