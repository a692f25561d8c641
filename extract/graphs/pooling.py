"""Poolings: from a layer's value to one vector per item. Their names, where they apply, and how graphs compute them.

The same poolings as ONNX nodes are in :mod:`topwork.extract.graphs.onnx.nodes`. What a certificate compares them with
is computed apart, in :mod:`topwork.extract.graphs.reference_pooling`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import LayerError
from .layer import Kind, Layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

POOLINGS: dict[Kind, tuple[str, ...]] = {
    "map": ("avg", "max", "gem", "avg2x2", "flatten"),
    "tokens": ("mean", "max", "gem", "cls", "last_token", "flatten"),
    "vector": ("none",),
}
"""Poolings for each kind of layer; ``avg2x2`` stands for a grid of any size."""
GRID_NAME = re.compile(r"avg([1-9]\d?)x([1-9]\d?)")
AUTO = "auto"
UNPOOLED = "none"
"""Asks for whole maps and sequences of tokens, and names the pooling of a vector, which has nothing to pool."""
TOKENS_NAME = re.compile(r"tokens([1-9]\d*)")
"""The tokens of a text, padded with zeros to a number of them."""
MIN_VECTOR_LENGTH = 1e-12
"""Vectors shorter than this are divided by it instead of their own length."""
GEM_POWER = 3.0
"""Usual exponent of generalised mean pooling (Radenović et al. 2018, https://arxiv.org/abs/1711.02512)."""
GEM_FLOOR = 1e-6
"""Smaller values are raised to this before generalised mean pooling."""
LOWEST_FEATURE = -1e30
"""Replaces padding before a maximum; it is less than any feature, and finite."""


CHANNEL_AXES = {"first": 0, "last": -1}
"""Channel axes as users name them behind a pooling, such as ``avg@last``."""


def split_pooling(pool: str) -> list[str]:
    """Return the poolings that a name such as ``avg+max`` joins."""
    names, _, _ = pool.partition("@")
    return names.split("+")


def name_channel_axis(layer: Layer, pool: str) -> Layer:
    """Return a layer with the channel axis that a pooling such as ``avg@last`` names, or as it is.

    Raises
    ------
    LayerError
        If there is no axis of this name, or the layer is no map.
    """
    _, _, axis = pool.partition("@")
    if not axis:
        return layer
    if axis not in CHANNEL_AXES or len(layer.shape) < 2 or layer.is_masked:
        raise LayerError(
            f"pooling {pool!r} of {layer.name!r}, whose shape is {layer.shape}: expected "
            f"{' or '.join(f'@{name}' for name in CHANNEL_AXES)}, for a map with several axes"
        )
    return replace(layer, kind="map", channel_axis=CHANNEL_AXES[axis], prefix_tokens=0)


def grid_of(name: str) -> tuple[int, int] | None:
    """Return the numbers of rows and columns of a pooling such as ``avg2x2``, None if it pools over no grid."""
    grid = GRID_NAME.fullmatch(name)
    if grid is None:
        return None
    return int(grid[1]), int(grid[2])


def token_count_of(name: str) -> int | None:
    """Return the number of tokens of a pooling such as ``tokens64``, None if it keeps no tokens of a text."""
    found = TOKENS_NAME.fullmatch(name)
    return None if found is None else int(found[1])


def name_pooled(layer: str, pool: str) -> str:
    """Return a layer and its pooling as text; the model's own, and that of a vector, are left out."""
    return layer if pool in (AUTO, UNPOOLED) else f"{layer} ({pool})"


def satisfies(pool: str, wanted: str) -> bool:
    """Return whether a column's pooling is the one that is asked for; a vector's is any."""
    if wanted == UNPOOLED:
        return pool in (UNPOOLED, "flatten") or token_count_of(pool) is not None
    return pool == UNPOOLED or wanted in (AUTO, pool)


def resolve_pooling(layer: Layer, pool: str, own: str = "", longest: int = 0) -> str:
    """Return the pooling to use for a layer. A vector is never pooled, whatever was asked for maps.

    `pool` is a name, several joined by ``+``, whose results are concatenated; ``auto``, which takes the model's own
    pooling where it applies; or ``none``, which keeps the whole value, of a text its `longest` number of tokens. If it
    does not apply, a LayerError lists those that do.
    """
    if pool == UNPOOLED:
        if layer.is_masked:
            return f"tokens{longest}"
        if layer.lengths_vary:
            raise LayerError(
                f"{layer.name!r} yields {layer.shape} for a sound; the number of frames, None, varies, so it cannot be "
                "kept whole. Pad sounds to one window: input_spec=AudioSpec(…, padding='silence')"
            )
        return UNPOOLED if layer.kind == "vector" else "flatten"
    names = split_pooling(pool)
    require_known_poolings(names)
    if layer.kind == "vector":
        return "none"
    applicable = applicable_poolings(layer)
    if layer.kind == "map" and layer.channel_axis is None and pool not in (AUTO, "flatten"):
        raise LayerError(
            f"the channels of {layer.name!r}, of shape {layer.shape}, are unknown, so it cannot be pooled: neither its "
            "operations nor inputs of another size show which axis they are. Name it behind the pooling, 'avg@first' "
            "or 'avg@last', or take pool='flatten'."
        )
    if pool == AUTO:
        return choose_own_pooling(own, applicable)
    for name in names:
        is_grid = grid_of(name) is not None and "avg2x2" in applicable
        keeps_all_tokens = layer.is_masked and token_count_of(name) == longest
        if name not in applicable and not is_grid and not keeps_all_tokens:
            raise LayerError(
                f"pooling {name!r} does not apply to {layer.name!r}, which yields {layer.kind} of shape {layer.shape}; "
                f"applicable: {', '.join(applicable)}"
            )
    return pool


def choose_own_pooling(own: str, applicable: Sequence[str]) -> str:
    """Return the model's own pooling where it applies, otherwise the first that does.

    If the model's makers pool in a way that is unknown here, a LayerError is raised.
    """
    if not own:
        return applicable[0]
    names = split_pooling(own)
    try:
        require_known_poolings(names)
    except LayerError as error:
        raise LayerError(f"the model's own pooling is {own}: {error}. Choose another (pool=, --pool)") from error
    if set(names) <= set(applicable):
        return own
    return applicable[0]


def require_known_poolings(names: Iterable[str]) -> None:
    """Raise a LayerError if there is no pooling of a name."""
    known = {AUTO}.union(*POOLINGS.values())
    for name in names:
        if name not in known and grid_of(name) is None and token_count_of(name) is None:
            raise LayerError(
                f"pooling {name!r} does not exist; known: {', '.join(sorted(known))} (avg2x2 for any grid)"
            )


def applicable_poolings(layer: Layer) -> tuple[str, ...]:
    """Return the poolings that apply to a layer.

    A map whose channel axis is unknown can only be flattened. ``cls`` needs a token in front that does not come from
    the input, or a text, whose tokeniser puts one there; ``last_token`` needs a text. Text has no fixed number of
    tokens and cannot be flattened.
    """
    if layer.kind == "map" and layer.channel_axis is None:
        return ("flatten",)
    excluded = set()
    if layer.lengths_vary:
        excluded.add("flatten")
    if not layer.is_masked:
        excluded.add("last_token")
        if not layer.prefix_tokens:
            excluded.add("cls")
    if len(layer.shape) != 3:
        excluded.add("avg2x2")
    return tuple(name for name in POOLINGS[layer.kind] if name not in excluded)


def pool_layers(
    values: Iterable[Tensor], chosen: Iterable[tuple[Layer, str]], mask: Tensor, normalize: bool
) -> list[Tensor]:
    """Pool the value ``(batch, *layer.shape)`` of each layer that was chosen into ``(batch, features)``.

    The mask, int64 ``(batch, tokens)``, is 1 for the tokens of a text and 0 for padding; it is ignored for other
    inputs. With `normalize`, each vector is divided by its length (L2 norm).
    """
    from torch.nn import functional

    features = []
    for value, (layer, pool) in zip(values, chosen, strict=True):
        pooled = pool_layer(value.float(), layer, pool, mask=mask)
        if normalize:
            pooled = functional.normalize(pooled, dim=1, eps=MIN_VECTOR_LENGTH)
        features.append(pooled)
    return features


def pool_layer(x: Tensor, layer: Layer, pool: str, mask: Tensor | None = None) -> Tensor:
    """Pool a batch of a layer's values into ``(batch, features)``; poolings joined by ``+`` are concatenated."""
    import torch

    parts = [apply_pooling(x, layer, name=name, mask=mask) for name in split_pooling(pool)]
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


def apply_pooling(x: Tensor, layer: Layer, *, name: str, mask: Tensor | None) -> Tensor:
    """Pool a batch of a layer's values in one way."""
    from torch.nn import functional

    if name in (UNPOOLED, "flatten"):
        return x.flatten(1)  # (batch, *shape) -> (batch, features)
    n_tokens = token_count_of(name)
    if n_tokens is not None:
        assert mask is not None
        tokens = x.masked_fill(mask.unsqueeze(-1) == 0, 0.0)
        return functional.pad(tokens, (0, 0, 0, n_tokens - x.shape[1])).flatten(1)
    if name == "cls":
        return x[:, 0]  # (batch, tokens, features) -> (batch, features)
    if layer.is_masked:
        assert mask is not None
        return pool_tokens(x, name, mask.unsqueeze(-1))  # mask: (batch, tokens) -> (batch, tokens, 1)
    if layer.kind == "tokens":
        x = x[:, layer.prefix_tokens :]  # (batch, tokens, features) -> (batch, tokens of the input, features)
        x = x.transpose(1, 2)  # -> (batch, features, tokens of the input)
    elif layer.channel_axis == -1:
        x = x.movedim(-1, 1)  # (batch, height, width, channels) -> (batch, channels, height, width)
    grid = grid_of(name)
    if grid is None:
        return pool_positions(x, name)
    return functional.adaptive_avg_pool2d(x, grid).flatten(1)  # -> (batch, channels * rows * columns)


def pool_tokens(x: Tensor, name: str, mask: Tensor) -> Tensor:
    """Pool ``(batch, tokens, features)`` over the tokens whose mask is 1; padding may hold any values, NaN included."""
    is_padding = mask == 0
    if name == "last_token":
        return x.masked_fill(~find_last_token(mask), 0.0).sum(1)
    if name == "max":
        return x.masked_fill(is_padding, LOWEST_FEATURE).amax(1)
    if name == "gem":
        x = x.clamp(min=GEM_FLOOR).pow(GEM_POWER)
    mean = x.masked_fill(is_padding, 0.0).sum(1) / mask.sum(1).clamp(min=1)  # (batch, features)
    if name == "gem":
        return mean.pow(1 / GEM_POWER)
    return mean


def find_last_token(mask: Tensor) -> Tensor:
    """Return whether each token of a mask ``(batch, tokens, 1)`` is the last one that is not padding."""
    tokens_from_here = mask.flip(1).cumsum(1).flip(1)
    return (mask != 0) & (tokens_from_here == 1)


def pool_positions(x: Tensor, name: str) -> Tensor:
    """Pool ``(batch, channels, …)`` over all axes after the channels."""
    positions = tuple(range(2, x.ndim))
    if name == "max":
        return x.amax(positions)
    if name == "gem":
        return x.clamp(min=GEM_FLOOR).pow(GEM_POWER).mean(positions).pow(1 / GEM_POWER)
    return x.mean(positions)
