"""What a value needs, and what all data passes, in any graph whose nodes know their sources (``all_input_nodes``)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any


def ancestors(nodes: Iterable[Any]) -> set[Any]:
    """Return all nodes that some nodes need, themselves included."""
    needed: set[Any] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending.extend(node.all_input_nodes)
    return needed


def gates(live: list[Any], output: Any) -> set[Any]:
    """Return the nodes that every path of data from the input to the output passes: its dominators.

    For a graph without cycles, in order, the immediate dominator of a node is the nearest dominator that its sources
    share (Cooper, Harvey and Kennedy 2001, "A simple, fast dominance algorithm").
    """
    order = {node: position for position, node in enumerate(live)}
    above: dict[Any, Any] = {}

    def meet(a: Any, b: Any) -> Any:
        while a is not b:
            if order[a] > order[b]:
                a = above[a]
            else:
                b = above[b]
        return a

    for node in live:
        sources = [source for source in node.all_input_nodes if source in above]
        above[node] = reduce(meet, sources) if sources else node
    found, node = {output}, output
    while above.get(node, node) is not node:
        node = above[node]
        found.add(node)
    return found
