"""Poolings: from a layer's value to one vector per item."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import LayerError
from .layers import Kind, Layer

if TYPE_CHECKING:
    from torch import Tensor, nn

POOLINGS: dict[Kind, tuple[str, ...]] = {
    "map": ("avg", "max", "flatten", "avg2x2"),
    "tokens": ("flatten",),
    "vector": ("none",),
}
GRID = re.compile(r"avg([1-9]\d?)x([1-9]\d?)")


def resolve_pooling(layer: Layer, pool: str) -> str:
    """Return the pooling to use for a layer; a vector has nothing to pool, whatever was asked for maps.

    Raises
    ------
    LayerError
        If the pooling does not apply; the message lists those that do.
    """
    known = {name for names in POOLINGS.values() for name in names}
    if pool not in known and not GRID.fullmatch(pool):
        raise LayerError(f"pooling {pool!r} does not exist; known: {', '.join(sorted(known))} (avg2x2 for any grid)")
    if layer.kind == "vector":
        return "none"
    allowed = applicable(layer)
    if pool in allowed or (len(allowed) > 1 and GRID.fullmatch(pool)):
        return pool
    raise LayerError(
        f"pooling {pool!r} does not apply to {layer.name!r}, which yields {layer.kind} of shape {layer.shape}; "
        f"applicable: {', '.join(allowed)}"
    )


def applicable(layer: Layer) -> tuple[str, ...]:
    """Return the poolings for a layer; a map whose channels were not found can only be flattened."""
    return ("flatten",) if layer.kind == "map" and layer.channel_axis is None else POOLINGS[layer.kind]


def pooling_module(layer: Layer, pool: str) -> nn.Module:
    """Return a module that maps ``(batch, *layer.shape)`` to ``(batch, features)``."""
    from torch import nn

    class Pooling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return pooled(x, pool, layer.channel_axis)

    return Pooling()


def pooled(x: Tensor, pool: str, channel_axis: int | None) -> Tensor:
    """Pool a batch of values; `channel_axis` 0 means channels first, -1 channels last."""
    from torch.nn import functional

    if pool in ("none", "flatten"):
        return x.flatten(1)  # (batch, *shape) -> (batch, features)
    if channel_axis == -1:
        x = x.permute(0, 3, 1, 2)  # (batch, height, width, channels) -> (batch, channels, height, width)
    if pool == "avg":
        return x.mean((2, 3))
    if pool == "max":
        return x.amax((2, 3))
    grid = GRID.fullmatch(pool)
    assert grid is not None
    return functional.adaptive_avg_pool2d(x, (int(grid[1]), int(grid[2]))).flatten(1)
