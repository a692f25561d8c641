"""The flow of data through a traced graph: what depends on the input, and what it costs.

Sizes are no data: a value that only knows how large the batch is does not depend on the input.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ...preprocess.by_kind import EXAMPLE_BATCH

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


def tensor_of(node: Node) -> Any:
    """Return the (first) tensor that stands for a node's value, None if its value is no tensor."""
    import torch

    value = node.meta.get("val")
    value = value[0] if isinstance(value, (tuple, list)) and value else value
    return value if isinstance(value, torch.Tensor) else None


def live_nodes(module: GraphModule) -> list[Node]:
    """Return the nodes whose value depends on the values of the first input, in order.

    The mask of a text says which of its tokens count; like a size, it is no data.
    """
    live: dict[Node, None] = {}
    data = next(node for node in module.graph.nodes if node.op == "placeholder")
    for node in module.graph.nodes:
        fed = node is data or (node.op != "output" and any(n in live for n in node.all_input_nodes))
        if fed and tensor_of(node) is not None:
            live[node] = None
    return list(live)


def parameters_of(node: Node) -> int:
    """Return how many numbers of the network's parameters and buffers a node holds."""
    tensor = tensor_of(node) if node.op == "get_attr" else None
    return 0 if tensor is None else int(tensor.numel())


def flops_of(node: Node) -> int:
    """Return the floating-point operations of one node for one item: two for each multiplication and addition.

    Convolutions and matrix products are counted; what remains is small beside them.
    """
    target, out = str(node.target), tensor_of(node)
    if out is None or node.op != "call_function":
        return 0
    inputs = [tensor for source in node.all_input_nodes if (tensor := tensor_of(source)) is not None]
    if "conv" in target and len(inputs) > 1:
        inner = math.prod(inputs[1].shape) // max(1, inputs[1].shape[0])
    elif any(name in target for name in ("linear", "aten.mm", "bmm", "matmul", "addmm")):
        inner = inputs[1 if "addmm" in target else 0].shape[-1]
    elif "scaled_dot_product" in target:  # two products of queries with as many keys
        inner = 2 * inputs[1].shape[-2]
    else:
        return 0
    return int(2 * _items(out) * inner)


def example_shape(node: Node) -> tuple[int, ...]:
    """Return the shape of a node's value as it was for the example batch."""
    tensor = tensor_of(node)
    return () if tensor is None else tuple(_size(size) for size in tensor.shape)


def _items(tensor: Any) -> int:
    """Return the number of elements for one item of the batch, whichever axes the batch went into."""
    return math.prod(_size(size) for size in tensor.shape) // EXAMPLE_BATCH


def _size(size: Any) -> int:
    """Return a size as it was in the example; a symbolic one remembers it."""
    return size if isinstance(size, int) else int(size.node.hint or 1)  # one that hangs on data has none
