"""The operations that a precision hurts most, which stay in float32.

In 8 bits or in float16, groups of operations are lowered one at a time, as in "Integer Quantization for Deep Learning
Inference" (Wu et al. 2020, arXiv:2004.09602, section 5.2 on partial quantization). The errors of groups add up in
squares, so the groups to keep are known without trying every set. A provider takes on bfloat16 for a whole graph; there
the beginning of the model is what can be kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING

from ..graphs.dataflow import find_dominators
from ..graphs.onnx.value_graph import load_graph
from .int8 import HEAVY_OPERATIONS

if TYPE_CHECKING:
    from ..graphs.exported_graph import ExportedGraph

N_GROUPS = 8
MAX_KEPT_GROUPS = 4
"""Half of the groups may stay in float32; with more there is little left to gain."""
BOUND_FRACTION = 0.9
"""Fraction of the bound that the predicted error may take."""
KEPT_FRACTIONS = (1 / 8, 1 / 4, 1 / 2)
"""Fractions of a model's heavy operations that may stay in float32 at its beginning."""


def group_heavy_operations(graph: ExportedGraph) -> list[list[str]]:
    """Return the names of a graph's heavy operations in up to eight groups, in their order."""
    import onnx

    nodes = onnx.load(graph.path, load_external_data=False).graph.node
    names = [node.name for node in nodes if node.op_type in HEAVY_OPERATIONS]
    bounds = [number * len(names) // N_GROUPS for number in range(N_GROUPS + 1)]
    groups = [names[start:end] for start, end in pairwise(bounds)]
    return [group for group in groups if group]


def find_sensitive_operations(
    groups: Sequence[Sequence[str]], measure_error: Callable[[list[str]], float], bound: float
) -> list[str]:
    """Find the operations to keep in float32, so that the error of the rest should stay below a bound.

    `measure_error` returns the error of the features where some operations stay in float32. No operations are returned
    if keeping half of the groups would not be enough.
    """
    # The error of each group, where all others stay in float32.
    errors: list[float] = []
    for number in range(len(groups)):
        others = [*groups[:number], *groups[number + 1 :]]
        errors.append(measure_error([name for group in others for name in group]))
    # Keep the groups of the largest errors, until the rest is good enough.
    worst_first = sorted(range(len(groups)), key=errors.__getitem__, reverse=True)
    max_kept = min(MAX_KEPT_GROUPS, len(groups) - 1)
    for n_kept in range(1, max_kept + 1):
        remaining_errors = [errors[number] for number in worst_first[n_kept:]]
        if math.hypot(*remaining_errors) <= BOUND_FRACTION * bound:
            kept = sorted(worst_first[:n_kept])
            return [name for number in kept for name in groups[number]]
    return []


def find_split_values(graph: ExportedGraph) -> list[str]:
    """Find the values that all data passes nearest to an eighth, a quarter and half of the heavy operations."""
    loaded = load_graph(graph.path, graph.certificate.inputs[0].name)
    passed_by_all = reduce(set.intersection, [find_dominators(loaded.live, output) for output in loaded.outputs])
    # Count the heavy operations up to each value where the graph can be split.
    n_heavy = 0
    heavy_before: dict[str, int] = {}
    for value in loaded.live:
        if value.operation in HEAVY_OPERATIONS:
            n_heavy += 1
        if value in passed_by_all and value not in loaded.outputs and n_heavy:
            heavy_before.setdefault(value.name, n_heavy)
    if not heavy_before:
        return []
    wanted = [fraction * n_heavy for fraction in KEPT_FRACTIONS]
    nearest = [find_nearest(heavy_before, count) for count in wanted]
    return list(dict.fromkeys(nearest))


def find_nearest(counts: Mapping[str, int], wanted: float) -> str:
    """Return the name whose count is nearest to the wanted one, the first of equals."""
    return min(counts, key=lambda name: abs(counts[name] - wanted))
