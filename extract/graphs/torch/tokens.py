"""Token sequences: which tokens are not of the input, and what the network makes of them before its classifier."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ..layer import LAST
from .flow import tensor_of
from .trace import Trace, node_of

if TYPE_CHECKING:
    from torch.fx import Node

CAT, SELECT, MEAN, AMAX = "aten.cat.default", "aten.select.int", "aten.mean.dim", "aten.amax.default"


def prefix_tokens(traced: Trace, node: Node) -> int:
    """Return how many tokens at the start of a sequence do not come from the input.

    They are put before the input's own tokens, of which there are more, by a concatenation; the nearest one that yields
    as many tokens is followed back to.

    Parameters
    ----------
    traced : Trace
    node : torch.fx.Node
        Of shape (batch, tokens, features).
    """
    live, count = set(traced.live), tensor_of(node).shape[1]
    pending, seen = deque([node]), {node}
    while pending:
        current = pending.popleft()
        if str(current.target) == CAT and tuple(tensor_of(current).shape[1:2]) == (count,):
            leading = _leading(current)
            if leading is not None:
                return leading
        for source in current.all_input_nodes:
            if source in live and source not in seen:
                seen.add(source)
                pending.append(source)
    return 0


def _leading(cat: Node) -> int | None:
    """Return how many tokens a concatenation puts in front of its longest part, None if it joins no tokens."""
    parts: Any = cat.args[0]
    axis = cat.args[1] if len(cat.args) > 1 else 0
    if tensor_of(cat).ndim != 3 or axis not in (1, -2):
        return None
    counts: list[int] = [tensor_of(part).shape[1] for part in parts]
    return sum(counts[: counts.index(max(counts))])


def own_pooling(traced: Trace) -> str:
    """Return how the network pools before its classifier: "cls", "mean", "avg", "max", or "" if that cannot be told."""
    if traced.backbone.pooling:
        return traced.backbone.pooling
    pending, seen = deque([node_of(traced, LAST)]), set[object]()
    while pending:
        node = pending.popleft()
        sources = [n for n in node.all_input_nodes if tensor_of(n) is not None and n.op == "call_function"]
        found = _pooling_of(node, tensor_of(sources[0]).ndim if sources else 0)
        if found:
            return found
        for source in sources:
            if source not in seen and tensor_of(source).ndim <= 4 and tensor_of(node).ndim == 2:
                seen.add(source)
                pending.append(source)
    return ""


def _pooling_of(node: Node, axes: int) -> str:
    target = str(node.target)
    if target == SELECT and axes == 3 and node.args[1:] == (1, 0):
        return "cls"
    if target == MEAN and axes == 3:
        return "mean"
    if (target == MEAN and axes == 4) or "adaptive_avg_pool" in target or "avg_pool2d" in target:
        return "avg"
    return "max" if target == AMAX or "max_pool2d" in target else ""
