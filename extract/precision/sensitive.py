"""Which operations a precision hurts most: those stay in float32.

Of a network computed in 8 bits or in float16, groups of operations are lowered one at a time, as in "Integer
Quantization for Deep Learning Inference" (Wu et al. 2020, arXiv:2004.09602, section 5.2 on partial quantization); the
errors of groups add up in squares, so those to keep are known without trying every set. In bfloat16, which a provider
takes on for a whole graph, the beginning of the network is what can be kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING

from ..graphs.dataflow import find_dominators
from ..graphs.onnx.value_graph import load_graph
from .int8 import HEAVY

if TYPE_CHECKING:
    from ..graphs.exported_graph import ExportedGraph

GROUPS = 8
MOST_KEPT = 4
"""Of so many groups half may stay in float32; with more there is little left to gain."""
MARGIN = 0.9
"""Share of the bound that the predicted error may take."""
SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of a network's heavy operations, which may stay in float32 at its beginning."""


def groups_of(graph: ExportedGraph) -> list[list[str]]:
    """Return the names of a graph's heavy operations in up to eight groups, in their order."""
    import onnx

    names = [node.name for node in onnx.load(graph.path, load_external_data=False).graph.node if node.op_type in HEAVY]
    places = [number * len(names) // GROUPS for number in range(GROUPS + 1)]
    found = [names[start:end] for start, end in pairwise(places)]
    return [group for group in found if group]


def sensitive(groups: Sequence[Sequence[str]], error: Callable[[list[str]], float], bound: float) -> list[str]:
    """Return the operations to keep in float32, so that the rest together should stay below a bound.

    Parameters
    ----------
    groups : sequence of sequences of str
        Names of operations.
    error : callable
        Takes the names of operations that stay in float32, returns the error of the features.
    bound : float

    Returns
    -------
    list of str
        Empty if half of the groups would not do.
    """
    errors = {number: error(_others(groups, number)) for number in range(len(groups))}
    order = sorted(errors, key=errors.__getitem__, reverse=True)
    for count in range(1, min(MOST_KEPT, len(groups) - 1) + 1):
        if math.hypot(*(errors[number] for number in order[count:])) <= MARGIN * bound:
            return [name for number in sorted(order[:count]) for name in groups[number]]
    return []


def _others(groups: Sequence[Sequence[str]], number: int) -> list[str]:
    return [name for other, group in enumerate(groups) if other != number for name in group]


def beginnings(graph: ExportedGraph) -> Iterator[str]:
    """Yield values that all data passes, near an eighth, a quarter and half of the heavy operations.

    Parameters
    ----------
    graph : ExportedGraph
    """
    loaded = load_graph(graph.path, graph.certificate.inputs[0].name)
    passed = reduce(set.intersection, (find_dominators(loaded.live, output) for output in loaded.outputs))
    heavy, after = 0, dict[str, int]()
    for value in loaded.live:
        heavy += value.operation in HEAVY
        if value in passed and value not in loaded.outputs and heavy:
            after.setdefault(value.name, heavy)
    found = [min(after, key=lambda name: abs(after[name] - share * heavy)) for share in SHARES if after]
    yield from dict.fromkeys(found)
