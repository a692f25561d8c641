"""Which axes of a model's values are places: those that grow where the input does, found by running the model.

A model's code may move its channels in any way. Its values for inputs of several sizes show where they are, whatever
moved them; only models that take a single size do not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from ...preprocess.by_kind import example_feed
from .inputs import model_inputs, to_tensors
from .module_calls import record_shapes

if TYPE_CHECKING:
    from ....models.backbone import TorchBackbone

Shapes: TypeAlias = "dict[str, list[tuple[int, ...]]]"
"""Shapes of the tensors that each module call returns."""
VaryingAxes: TypeAlias = "dict[tuple[str, tuple[int, ...]], frozenset[int]]"
"""For each module call and shape of an item that it returns, the axes that grow; 0 is the first after the batch."""


def find_varying_axes(backbone: TorchBackbone, calls: Sequence[str]) -> VaryingAxes:
    """Run a model on inputs that are larger along one axis at a time, and return which axes of its values grew."""
    import torch

    data, *others = model_inputs(backbone.input_spec, to_tensors(example_feed(backbone.input_spec)))
    base = record_shapes(backbone, calls, (data, *others))
    varying: VaryingAxes = {}
    for axis in range(1, data.ndim):
        larger = torch.cat([data, data], dim=axis)
        with contextlib.suppress(Exception):  # the model takes a single size of this axis
            grown = record_shapes(backbone, calls, (larger, *others))
            for key, axes in compare_shapes(base, grown).items():
                varying[key] = varying.get(key, frozenset()) | axes
    return varying


def compare_shapes(base: Shapes, grown: Shapes) -> VaryingAxes:
    """Return which axes of the items of two runs have another size."""
    varying = {}
    for call, shapes in base.items():
        for before, after in zip(shapes, grown.get(call, ()), strict=False):
            if len(before) == len(after):
                axes = {axis - 1 for axis in range(1, len(before)) if before[axis] != after[axis]}
                varying[call, before[1:]] = frozenset(axes)
    return varying


def find_fixed_axis(shape: tuple[int, ...], varying: frozenset[int]) -> int | None:
    """Return the only axis of an item that does not grow, as in :class:`Layer`; None if there is no such one."""
    fixed = [axis for axis in range(len(shape)) if axis not in varying]
    if not varying or len(fixed) != 1:
        return None
    return {0: 0, len(shape) - 1: -1}.get(fixed[0])
