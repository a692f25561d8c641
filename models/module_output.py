"""The tensors among what a module returns, and the one of them that is the model's output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAP_NDIM = 4
"""Axes of a batch of feature maps: batch, channels, height, width."""
MIN_NDIM = 2
"""Axes of a batch of vectors."""


def iterate_tensors(values: Any) -> Iterator[Any]:
    """Yield the tensors of what a module returned: one, or several in tuples, lists and dictionaries."""
    if isinstance(values, Mapping):
        values = tuple(values.values())
    if isinstance(values, (tuple, list)):
        for value in values:
            yield from iterate_tensors(value)
    elif is_tensor(values):
        yield values


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor, without importing torch."""
    return hasattr(value, "requires_grad")


def select_output(output: Any) -> Any:
    """Return the tensor among what a model returned that is its output, None if there is none.

    It is the first of floats (batch, …), or else the first of any kind. Of several feature maps, as backbones of
    detectors return them, it is the last and deepest.
    """
    selected = select_features(output)
    if selected is None:
        return next(iterate_tensors(output), None)
    return selected


def select_features(output: Any) -> Any:
    """Return the first tensor of floats (batch, …), or the deepest of several feature maps; None if there is none."""
    if is_tensor(output):
        return output if output.is_floating_point() and output.ndim >= MIN_NDIM else None
    if isinstance(output, Mapping):
        return select_among(list(output.values()), is_list=False)
    if isinstance(output, (tuple, list)):
        return select_among(output, is_list=isinstance(output, list))
    return None


def select_among(outputs: Sequence[Any], *, is_list: bool) -> Any:
    """Return the features among several outputs; see :func:`select_features`.

    Maps of one size are as deep as the next in a list, as of timm's ``features_only``, and equals in a tuple.
    """
    sizes = [tuple(output.shape[2:]) for output in outputs if is_tensor(output) and output.ndim == MAP_NDIM]
    if len(sizes) == len(outputs) > 1:
        has_smaller_maps = sizes[-1] != sizes[0] and sizes == sorted(sizes, reverse=True)
        has_equal_maps = len(set(sizes)) == 1
        if has_smaller_maps or (has_equal_maps and is_list):
            return select_features(outputs[-1])
    for output in outputs:
        selected = select_features(output)
        if selected is not None:
            return selected
    return None
