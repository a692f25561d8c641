"""Token sequences of a traced module: tokens that do not come from the input, and the pooling before the classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..dataflow import walk_back
from ..layer import LAST
from .flow import count_axes, example_tensor
from .trace import Trace, find_node

if TYPE_CHECKING:
    from torch.fx import Node

CAT = "aten.cat.default"
SELECT = "aten.select.int"
MEAN = "aten.mean.dim"
MAX = "aten.amax.default"


def count_prefix_tokens(traced: Trace, node: Node) -> int:
    """Return the number of tokens at the start of a sequence ``(batch, tokens, features)`` that are not of the input.

    A concatenation puts them before the input's own tokens, of which there are more. The nearest concatenation that
    yields as many tokens as the sequence has is the one that counts.
    """
    live = set(traced.live)
    token_count = example_tensor(node).shape[1]
    for current in walk_back(node, lambda n: [source for source in n.all_input_nodes if source in live]):
        if str(current.target) == CAT and tuple(example_tensor(current).shape[1:2]) == (token_count,):
            leading = count_leading_tokens(current)
            if leading is not None:
                return leading
    return 0


def count_leading_tokens(cat: Node) -> int | None:
    """Return the number of tokens that a concatenation puts before its longest part, None if it joins no tokens."""
    parts: Any = cat.args[0]
    axis = cat.args[1] if len(cat.args) > 1 else 0
    if count_axes(cat) != 3 or axis not in (1, -2):
        return None
    counts: list[int] = [example_tensor(part).shape[1] for part in parts]
    longest = counts.index(max(counts))
    return sum(counts[:longest])


def find_own_pooling(traced: Trace) -> str:
    """Return how the model pools before its classifier: "cls", "mean", "avg", "max", or "" if that is unknown."""
    for node in walk_back(find_node(traced, LAST), list_sources_of_vector):
        sources = _list_computed_sources(node)
        pooling = classify_pooling(node, count_axes(sources[0]) if sources else 0)
        if pooling:
            return pooling
    return ""


def _list_computed_sources(node: Node) -> list[Node]:
    """Return the tensors that a node is computed from, without the model's inputs and parameters."""
    computed = [source for source in node.all_input_nodes if source.op == "call_function"]
    return [source for source in computed if example_tensor(source) is not None]


def list_sources_of_vector(node: Node) -> list[Node]:
    """Return the nodes to look at behind one that yields a vector for each item; behind others there are none."""
    if count_axes(node) != 2:
        return []
    return [source for source in _list_computed_sources(node) if count_axes(source) <= 4]


def classify_pooling(node: Node, input_axes: int) -> str:
    """Return the pooling that an operation on a value with so many axes is, "" if it is none."""
    target = str(node.target)
    if target == SELECT and input_axes == 3 and node.args[1:] == (1, 0):
        return "cls"
    if target == MEAN and input_axes == 3:
        return "mean"
    if target == MEAN and input_axes == 4:
        return "avg"
    if "adaptive_avg_pool" in target or "avg_pool2d" in target:
        return "avg"
    if target == MAX or "max_pool2d" in target:
        return "max"
    return ""
