"""Token sequences of an ONNX graph, and its own pooling; see :mod:`topwork.extract.graphs.torch.tokens`."""

from __future__ import annotations

from collections import deque

from ..layer import LAST
from .trace import OnnxTrace, value_of
from .value_graph import Value

POOLS = {"GlobalAveragePool": "avg", "AveragePool": "avg", "GlobalMaxPool": "max", "MaxPool": "max", "ReduceMax": "max"}


def prefix_tokens(trace: OnnxTrace, value: Value) -> int:
    """Return how many tokens at the start of a sequence do not come from the input.

    Parameters
    ----------
    trace : OnnxTrace
    value : Value
        Of shape (batch, tokens, features).
    """
    count = trace.sizes(value)[1]
    pending, seen = deque([value]), {value}
    while pending:
        current = pending.popleft()
        if current.operation == "Concat" and trace.sizes(current)[1:2] == (count,):
            leading = _leading(trace, current)
            if leading is not None:
                return leading
        fresh = [source for source in trace.live_sources(current) if source not in seen]
        seen.update(fresh)
        pending.extend(fresh)
    return 0


def _leading(trace: OnnxTrace, concat: Value) -> int | None:
    """Return how many tokens a concatenation puts in front of its longest part, None if it joins no tokens."""
    if len(trace.sizes(concat)) != 3 or concat.attribute("axis") not in (1, -2):
        return None
    counts = [trace.sizes(part)[1] for part in concat.all_input_nodes]
    return sum(counts[: counts.index(max(counts))])


def own_pooling(trace: OnnxTrace) -> str:
    """Return how the network pools before its classifier: "cls", "mean", "avg", "max", or "" if that cannot be told."""
    pending, seen = deque([value_of(trace, LAST)]), set[Value]()
    while pending:
        value = pending.popleft()
        sources = trace.live_sources(value)
        found = _pooling_of(value, len(trace.sizes(sources[0])) if sources else 0)
        if found:
            return found
        if len(trace.sizes(value)) == 2:
            pending.extend(s for s in sources if s not in seen and len(trace.sizes(s)) <= 4)
            seen.update(sources)
    return ""


def _pooling_of(value: Value, axes: int) -> str:
    """Return the pooling that an operation on a value with so many axes is, "" if it is none."""
    if value.operation == "ReduceMean":
        return {3: "mean", 4: "avg"}.get(axes, "")
    return "cls" if axes == 3 and _takes_first(value) else POOLS.get(value.operation, "")


def _takes_first(value: Value) -> bool:
    """Tell whether an operation takes the first token."""
    if value.operation == "Gather":
        return value.attribute("axis", 0) == 1 and _numbers(value.all_input_nodes[1]) == [0]
    if value.operation != "Slice":
        return False
    return [_numbers(source) for source in value.all_input_nodes[1:4]] == [[0], [1], [1]]


def _numbers(value: Value) -> list[int]:
    """Return the numbers of a constant, none if it is computed."""
    constant = value.constant()
    return [] if constant is None else [int(number) for number in constant.ravel()]
