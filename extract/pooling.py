"""Poolings: from a layer's value to one vector per item."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import LayerError
from .layers import Kind, Layer

if TYPE_CHECKING:
    from torch import Tensor, nn

POOLINGS: dict[Kind, tuple[str, ...]] = {
    "map": ("avg", "max", "gem", "avg2x2", "flatten"),
    "tokens": ("mean", "max", "gem", "cls", "flatten"),
    "vector": ("none",),
}
GRID = re.compile(r"avg([1-9]\d?)x([1-9]\d?)")
GEM_POWER = 3.0
"""Generalised mean pooling (Radenović et al. 2018, https://arxiv.org/abs/1711.02512) with its usual exponent."""
AUTO = "auto"


def resolve_pooling(layer: Layer, pool: str, own: str = "") -> str:
    """Return the pooling to use for a layer; a vector has nothing to pool, whatever was asked for maps.

    Parameters
    ----------
    layer : Layer
    pool : str
        A name, several joined by ``+``, whose results stand side by side, or ``auto``.
    own : str
        What the network itself does before its classifier: what ``auto`` takes where it applies.

    Raises
    ------
    LayerError
        If the pooling does not apply; the message lists those that do.
    """
    for name in pool.split("+"):
        _require_known(name)
    if layer.kind == "vector":
        return "none"
    allowed = applicable(layer)
    if pool == AUTO:
        return own if own in allowed else allowed[0]
    for name in pool.split("+"):
        if name not in allowed and not (GRID.fullmatch(name) and "avg2x2" in allowed):
            raise LayerError(
                f"pooling {name!r} does not apply to {layer.name!r}, which yields {layer.kind} of shape {layer.shape}; "
                f"applicable: {', '.join(allowed)}"
            )
    return pool


def _require_known(name: str) -> None:
    known = {name for names in POOLINGS.values() for name in names} | {AUTO}
    if name not in known and not GRID.fullmatch(name):
        raise LayerError(f"pooling {name!r} does not exist; known: {', '.join(sorted(known))} (avg2x2 for any grid)")


def applicable(layer: Layer) -> tuple[str, ...]:
    """Return the poolings for a layer.

    A map whose channels were not found can only be flattened; ``cls`` needs a token in front that is not of the input.
    """
    names = POOLINGS[layer.kind]
    if layer.kind == "map" and layer.channel_axis is None:
        return ("flatten",)
    return tuple(name for name in names if name != "cls" or layer.prefix_tokens)


def pooling_module(layer: Layer, pool: str) -> nn.Module:
    """Return a module that maps ``(batch, *layer.shape)`` to ``(batch, features)``."""
    from torch import nn

    class Pooling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return pooled(x, pool, layer)

    return Pooling()


def pooled(x: Tensor, pool: str, layer: Layer) -> Tensor:
    """Pool a batch of a layer's values ``(batch, *layer.shape)``."""
    import torch

    parts = [_pooled(x, name, layer) for name in pool.split("+")]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _pooled(x: Tensor, name: str, layer: Layer) -> Tensor:
    if name in ("none", "flatten"):
        return x.flatten(1)  # (batch, *shape) -> (batch, features)
    if name == "cls":
        return x[:, 0]
    if layer.kind == "tokens":
        x = x[:, layer.prefix_tokens :].transpose(1, 2)  # (batch, tokens, features) -> (batch, features, own tokens)
    elif layer.channel_axis == -1:
        x = x.permute(0, 3, 1, 2)  # (batch, height, width, channels) -> (batch, channels, height, width)
    grid = GRID.fullmatch(name)
    return _on_grid(x, int(grid[1]), int(grid[2])) if grid else _over_places(x, name)


def _over_places(x: Tensor, name: str) -> Tensor:
    """Pool over all axes behind the channels."""
    places = tuple(range(2, x.ndim))
    if name == "max":
        return x.amax(places)
    if name == "gem":
        return x.clamp(min=1e-6).pow(GEM_POWER).mean(places).pow(1 / GEM_POWER)
    return x.mean(places)


def _on_grid(x: Tensor, rows: int, columns: int) -> Tensor:
    from torch.nn import functional

    return functional.adaptive_avg_pool2d(x, (rows, columns)).flatten(1)  # (batch, channels * rows * columns)
