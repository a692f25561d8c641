"""Token sequences of an ONNX graph: tokens that do not come from the input, and the pooling before the classifier."""

from __future__ import annotations

from ..dataflow import walk_back
from ..layer import LAST
from .trace import OnnxTrace, find_value
from .value_graph import Value

POOLINGS_OF_OPERATIONS = {
    "GlobalAveragePool": "avg",
    "AveragePool": "avg",
    "GlobalMaxPool": "max",
    "MaxPool": "max",
    "ReduceMax": "max",
}


def count_prefix_tokens(traced: OnnxTrace, value: Value) -> int:
    """Return the number of tokens at the start of a sequence ``(batch, tokens, features)`` that are not of the input.

    The nearest concatenation that yields as many tokens as the sequence has is the one that counts.
    """
    token_count = traced.sizes(value)[1]
    for current in walk_back(value, traced.live_sources):
        if current.operation == "Concat" and traced.sizes(current)[1:2] == (token_count,):
            leading = count_leading_tokens(traced, current)
            if leading is not None:
                return leading
    return 0


def count_leading_tokens(traced: OnnxTrace, concat: Value) -> int | None:
    """Return the number of tokens that a concatenation puts before its longest part, None if it joins no tokens."""
    if len(traced.sizes(concat)) != 3 or concat.attribute("axis") not in (1, -2):
        return None
    counts = [traced.sizes(part)[1] for part in concat.all_input_nodes]
    longest = counts.index(max(counts))
    return sum(counts[:longest])


def find_own_pooling(traced: OnnxTrace) -> str:
    """Return how the model pools before its classifier: "cls", "mean", "avg", "max", or "" if that is unknown."""

    def list_sources_of_vector(value: Value) -> list[Value]:
        if len(traced.sizes(value)) != 2:
            return []
        return [source for source in traced.live_sources(value) if len(traced.sizes(source)) <= 4]

    for value in walk_back(find_value(traced, LAST), list_sources_of_vector):
        sources = traced.live_sources(value)
        if sources:
            pooling = classify_pooling(value, input_axes=len(traced.sizes(sources[0])))
            if pooling:
                return pooling
    return ""


def classify_pooling(value: Value, input_axes: int) -> str:
    """Return the pooling that an operation on a value with so many axes is, "" if it is none."""
    if value.operation == "ReduceMean":
        return {3: "mean", 4: "avg"}.get(input_axes, "")
    if input_axes == 3 and takes_first_token(value):
        return "cls"
    return POOLINGS_OF_OPERATIONS.get(value.operation, "")


def takes_first_token(value: Value) -> bool:
    """Return whether an operation takes the first token."""
    if value.operation == "Gather":
        return value.attribute("axis", 0) == 1 and _read_integers(value.all_input_nodes[1]) == [0]
    if value.operation == "Slice":
        start_end_axis = [_read_integers(source) for source in value.all_input_nodes[1:4]]
        return start_end_axis == [[0], [1], [1]]
    return False


def _read_integers(value: Value) -> list[int]:
    """Return the numbers of a constant, none if it is computed."""
    constant = value.constant()
    if constant is None:
        return []
    return [int(number) for number in constant.ravel()]
