"""Poolings: from a layer's value to one vector per item."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...errors import LayerError
from .layer import Kind, Layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .cut import Cut

POOLINGS: dict[Kind, tuple[str, ...]] = {
    "map": ("avg", "max", "gem", "avg2x2", "flatten"),
    "tokens": ("mean", "max", "gem", "cls", "flatten"),
    "vector": ("none",),
}
NORM_FLOOR = 1e-12
"""The length by which shorter vectors are divided."""
GRID = re.compile(r"avg([1-9]\d?)x([1-9]\d?)")
GEM_POWER = 3.0
"""Generalised mean pooling (Radenović et al. 2018, https://arxiv.org/abs/1711.02512) with its usual exponent."""
GEM_FLOOR = 1e-6
LOWEST = -1e30
"""Less than any feature, and finite: padding never is the maximum."""
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
        return _own(own, allowed)
    for name in pool.split("+"):
        if name not in allowed and not (GRID.fullmatch(name) and "avg2x2" in allowed):
            raise LayerError(
                f"pooling {name!r} does not apply to {layer.name!r}, which yields {layer.kind} of shape {layer.shape}; "
                f"applicable: {', '.join(allowed)}"
            )
    return pool


def _own(own: str, allowed: tuple[str, ...]) -> str:
    """Return the network's own pooling where it applies, else the first that does."""
    for name in own.split("+") if own else ():
        try:
            _require_known(name)
        except LayerError as error:
            raise LayerError(
                f"the makers of this network pool by {own}: {error}. Choose another (pool=, --pool)"
            ) from error
    return own if own and set(own.split("+")) <= set(allowed) else allowed[0]


def _require_known(name: str) -> None:
    known = {name for names in POOLINGS.values() for name in names} | {AUTO}
    if name not in known and not GRID.fullmatch(name):
        raise LayerError(f"pooling {name!r} does not exist; known: {', '.join(sorted(known))} (avg2x2 for any grid)")


def applicable(layer: Layer) -> tuple[str, ...]:
    """Return the poolings for a layer.

    A map whose channels were not found can only be flattened; ``cls`` needs a token in front that is not of the input,
    or a text, whose tokeniser puts one there. Texts of any length cannot be flattened.
    """
    if layer.kind == "map" and layer.channel_axis is None:
        return ("flatten",)
    left_out = {"flatten"} if layer.is_masked else set() if layer.prefix_tokens else {"cls"}
    if len(layer.shape) != 3:
        left_out.add("avg2x2")
    return tuple(name for name in POOLINGS[layer.kind] if name not in left_out)


def features_of(values: Sequence[Tensor], cut: Cut, mask: Tensor) -> list[Tensor]:
    """Pool the values of a cut's layers.

    Parameters
    ----------
    values : sequence of Tensor
        One ``(batch, *layer.shape)`` for each output of the cut.
    cut : Cut
    mask : Tensor
        Of texts, int64 ``(batch, tokens)``: 1 for tokens, 0 for padding. Of other inputs it is not looked at.

    Returns
    -------
    list of Tensor
        Each ``(batch, features)``.
    """
    pooled_values = (pooled(x, pool, layer, mask) for x, (layer, pool) in zip(values, cut.chosen, strict=True))
    return [_normalized(x) if cut.normalize else x for x in pooled_values]


def _normalized(x: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.normalize(x, dim=1, eps=NORM_FLOOR)


def pooled(x: Tensor, pool: str, layer: Layer, mask: Tensor | None = None) -> Tensor:
    """Pool a batch of a layer's values ``(batch, *layer.shape)``."""
    import torch

    parts = [_pooled(x, name, layer, mask) for name in pool.split("+")]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _pooled(x: Tensor, name: str, layer: Layer, mask: Tensor | None) -> Tensor:
    if name in ("none", "flatten"):
        return x.flatten(1)  # (batch, *shape) -> (batch, features)
    if name == "cls":
        return x[:, 0]
    if layer.is_masked:
        assert mask is not None
        return _over_tokens(x, name, mask.unsqueeze(-1))  # (batch, tokens, 1)
    if layer.kind == "tokens":
        x = x[:, layer.prefix_tokens :].transpose(1, 2)  # (batch, tokens, features) -> (batch, features, own tokens)
    elif layer.channel_axis == -1:
        x = x.movedim(-1, 1)  # (batch, height, width, channels) -> (batch, channels, height, width)
    grid = GRID.fullmatch(name)
    return _on_grid(x, int(grid[1]), int(grid[2])) if grid else _over_places(x, name)


def _over_tokens(x: Tensor, name: str, mask: Tensor) -> Tensor:
    """Pool ``(batch, tokens, features)`` over the tokens whose mask is 1; what stands at the others may be anything."""
    if name == "max":
        return x.masked_fill(mask == 0, LOWEST).amax(1)
    if name == "gem":
        x = x.clamp(min=GEM_FLOOR).pow(GEM_POWER)
    mean = x.masked_fill(mask == 0, 0.0).sum(1) / mask.sum(1).clamp(min=1)
    return mean.pow(1 / GEM_POWER) if name == "gem" else mean


def _over_places(x: Tensor, name: str) -> Tensor:
    """Pool over all axes behind the channels."""
    places = tuple(range(2, x.ndim))
    if name == "max":
        return x.amax(places)
    if name == "gem":
        return x.clamp(min=GEM_FLOOR).pow(GEM_POWER).mean(places).pow(1 / GEM_POWER)
    return x.mean(places)


def _on_grid(x: Tensor, rows: int, columns: int) -> Tensor:
    from torch.nn import functional

    return functional.adaptive_avg_pool2d(x, (rows, columns)).flatten(1)  # (batch, channels * rows * columns)
