"""What the reference of a certificate computes around the untouched model: normalised images and pooled features.

Everything here is NumPy in double precision, item by item. On purpose it shares no code, no constants and no parsing
with what exported graphs do (:mod:`topwork.extract.graphs.pooling`, :mod:`topwork.extract.graphs.onnx.nodes`): a check
that shares code with what it checks proves nothing. import-linter keeps the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import LayerError
from .layer import Layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...models.input_spec import InputSpec
    from ..preprocess.preprocessor import Feed


def prepare_reference_inputs(spec: InputSpec, feed: Feed) -> list[NDArray[Any]]:
    """Return what enters the model itself: images normalised, everything else unchanged.

    Images, uint8 ``(batch, height, width, 3)``, become float32 ``(batch, 3, height, width)``.
    """
    arrays = list(feed.values())
    if spec.normalization is None:
        return arrays
    mean = np.array(spec.normalization.mean)
    std = np.array(spec.normalization.std)
    scaled = arrays[0].astype(np.float64) / 255
    normalized = (scaled - mean) / std
    channels_first = normalized.transpose(0, 3, 1, 2)  # (batch, height, width, 3) -> (batch, 3, height, width)
    return [np.ascontiguousarray(channels_first, np.float32)]


def find_reference_mask(spec: InputSpec, feed: Feed) -> NDArray[Any]:
    """Return the mask of a batch of texts, ones if every token counts; for other inputs an array without meaning."""
    arrays = list(feed.values())
    if len(arrays) == 1 and spec.kind == "text":
        return np.ones(arrays[0].shape, np.int64)
    return arrays[-1]


def pool_reference(
    values: Iterable[NDArray[Any]], chosen: Sequence[tuple[Layer, str]], mask: NDArray[Any], normalize: bool
) -> list[NDArray[np.float32]]:
    """Pool the value ``(batch, *layer.shape)`` of each layer that was chosen into ``(batch, features)``.

    The mask ``(batch, tokens)`` is 1 for the tokens of a text and 0 for padding; it is ignored for other inputs. With
    `normalize`, each vector is divided by its length (L2 norm).
    """
    features = []
    for value, (layer, pool) in zip(values, chosen, strict=True):
        exact = value.astype(np.float64)
        rows = np.stack([pool_item(item, layer, pool, mask=mask[number]) for number, item in enumerate(exact)])
        if normalize:
            rows = normalize_rows(rows)
        features.append(rows.astype(np.float32))
    return features


def normalize_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide each row by its length."""
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    normalized: NDArray[np.float64] = rows / np.maximum(lengths, 1e-12)
    return normalized


def pool_item(item: NDArray[np.float64], layer: Layer, pool: str, *, mask: NDArray[Any]) -> NDArray[np.float64]:
    """Pool one item's value ``layer.shape`` in one way or, joined by ``+``, in several.

    Raise a LayerError if a layer's tokens are not those of the text.
    """
    if layer.is_masked and len(item) != len(mask):
        raise LayerError(
            f"{layer.name!r} yields {len(item)} tokens for a text of {len(mask)}: which are padding is unknown; "
            "expected a layer that yields as many tokens as the text has"
        )
    parts = []
    for name in pool.split("@")[0].split("+"):
        if name in ("none", "flatten"):
            parts.append(item.ravel())
        elif name.startswith("tokens"):
            kept = np.zeros((int(name.removeprefix("tokens")), item.shape[1]))
            kept[: len(item)][mask != 0] = item[mask != 0]
            parts.append(kept.ravel())
        elif name == "cls":
            parts.append(item[0])
        elif name == "last_token":
            parts.append(item[np.flatnonzero(mask)[-1]])
        elif name[-1].isdigit():  # "avg2x3"
            rows, _, columns = name.removeprefix("avg").partition("x")
            parts.append(average_cells(move_channels_last(item, layer), int(rows), int(columns)))
        else:
            parts.append(pool_rows(list_positions(item, layer, mask), name))
    return np.concatenate(parts)


def move_channels_last(item: NDArray[np.float64], layer: Layer) -> NDArray[np.float64]:
    """Return a map with its channels as the last axis."""
    if layer.channel_axis == -1:
        return item
    return np.moveaxis(item, 0, -1)


def list_positions(item: NDArray[np.float64], layer: Layer, mask: NDArray[Any]) -> NDArray[np.float64]:
    """Return the vectors that are pooled, ``(positions, features)``: tokens of the input, or places of a map."""
    if layer.is_masked:
        tokens: NDArray[np.float64] = item[mask != 0]
        return tokens
    if layer.kind == "tokens":
        return item[layer.prefix_tokens :]
    channels_last = move_channels_last(item, layer)
    positions: NDArray[np.float64] = channels_last.reshape(-1, channels_last.shape[-1])
    return positions


def pool_rows(rows: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Pool ``(positions, features)`` over the positions."""
    if name == "max":
        largest: NDArray[np.float64] = rows.max(axis=0)
        return largest
    if name == "gem":
        cubes = np.maximum(rows, 1e-6) ** 3
        root: NDArray[np.float64] = np.cbrt(cubes.mean(axis=0))
        return root
    mean: NDArray[np.float64] = rows.mean(axis=0)
    return mean


def average_cells(image: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """Average ``(height, width, channels)`` over the cells of a grid, bounded as in torch's adaptive pooling."""
    height, width, channels = image.shape
    cells = np.empty((channels, rows, columns))
    for row in range(rows):
        top = row * height // rows
        bottom = -(-(row + 1) * height // rows)  # rounded up
        for column in range(columns):
            left = column * width // columns
            right = -(-(column + 1) * width // columns)  # rounded up
            cells[:, row, column] = image[top:bottom, left:right].mean(axis=(0, 1))
    return cells.ravel()  # (channels, rows, columns) -> (features,)
