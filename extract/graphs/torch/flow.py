"""The nodes of a traced graph: their tensors, whether they depend on the input, and what they cost.

Sizes are no data: a value that only depends on the size of the batch does not depend on the input.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ...preprocess.by_kind import EXAMPLE_BATCH
from ..dataflow import Cost

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

MATRIX_PRODUCTS = ("linear", "aten.mm", "bmm", "matmul")


def example_tensor(node: Node) -> Any:
    """Return the fake tensor of a node's value, or of its first part; None if its value is no tensor."""
    import torch

    value = node.meta.get("val")
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, torch.Tensor) else None


def count_axes(node: Node) -> int:
    """Return the number of axes of a node's value, 0 if it is no tensor."""
    return getattr(example_tensor(node), "ndim", 0)


def example_shape(node: Node) -> tuple[int, ...]:
    """Return the shape of a node's value for the example batch."""
    tensor = example_tensor(node)
    if tensor is None:
        return ()
    return tuple(example_size(size) for size in tensor.shape)


def example_size(size: Any) -> int:
    """Return a size in the example batch; a symbolic one keeps it as a hint, unless it depends on data."""
    if isinstance(size, int):
        return size
    return int(size.node.hint or 1)


def list_live_nodes(module: GraphModule) -> list[Node]:
    """List the nodes whose value depends on the values of the first input, in order.

    The mask of a text marks which of its tokens count; like a size, it is no data.
    """
    data = next(node for node in module.graph.nodes if node.op == "placeholder")
    live: dict[Node, None] = {}
    for node in module.graph.nodes:
        reads_live = node.op != "output" and any(source in live for source in node.all_input_nodes)
        if (node is data or reads_live) and example_tensor(node) is not None:
            live[node] = None
    return list(live)


def measure_cost(node: Node) -> Cost:
    """Return the cost of one node: numbers of the model's parameters and buffers, and operations for one item."""
    tensor = example_tensor(node)
    if tensor is None:
        return Cost()
    if node.op == "get_attr":
        return Cost(parameters=int(tensor.numel()))
    if node.op == "call_function":
        return Cost(flops=count_flops(node))
    return Cost()


def count_flops(node: Node) -> int:
    """Return the floating-point operations of one operation for one item: two for each multiplication and addition.

    Convolutions and matrix products are counted; the rest is negligible.
    """
    multiplications = count_multiplications(node)
    if multiplications == 0:
        return 0
    results = math.prod(example_shape(node)) // EXAMPLE_BATCH  # per item, whichever axes hold the batch
    return int(2 * results * multiplications)


def count_multiplications(node: Node) -> Any:
    """Return how many products are summed for each number of an operation's result, 0 if it is no product."""
    tensors = [example_tensor(source) for source in node.all_input_nodes]
    inputs = [tensor for tensor in tensors if tensor is not None]
    target = str(node.target)
    if "conv" in target and len(inputs) > 1:
        kernel = inputs[1].shape
        return math.prod(kernel) // max(1, kernel[0])
    if "addmm" in target:
        return inputs[1].shape[-1]
    if any(name in target for name in MATRIX_PRODUCTS):
        return inputs[0].shape[-1]
    if "scaled_dot_product" in target:  # two products of the queries with as many keys
        return 2 * inputs[1].shape[-2]
    return 0
