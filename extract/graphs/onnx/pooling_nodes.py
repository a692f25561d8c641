"""The poolings of :mod:`topwork.extract.graphs.pooling` as ONNX nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..layer import Layer
from ..pooling import GEM_FLOOR, GEM_POWER, GRID, LOWEST, NORM_FLOOR
from .nodes import Nodes


def append_pooling(nodes: Nodes, value: str, layer: Layer, pool: str, mask: str) -> str:
    """Append what pools a layer's float32 value, and return the name of the result ``(batch, features)``.

    Parameters
    ----------
    nodes : Nodes
    value : str
        Name of a value ``(batch, *layer.shape)``.
    layer : Layer
    pool : str
        A name, or several joined by ``+``.
    mask : str
        Name of the mask of texts, int64 ``(batch, tokens)``; of other inputs it is not looked at.
    """
    parts = [_append(nodes, value, layer, name, mask) for name in pool.split("+")]
    return parts[0] if len(parts) == 1 else nodes.add("Concat", *parts, axis=1)


def append_normalization(nodes: Nodes, value: str) -> str:
    """Append the division of each row by its length (L2 norm)."""
    length = nodes.reduce("ReduceL2", value, (1,), keepdims=True)
    return nodes.add("Div", value, nodes.add("Max", length, nodes.floats(NORM_FLOOR)))


def _append(nodes: Nodes, value: str, layer: Layer, name: str, mask: str) -> str:
    if name in ("none", "flatten"):
        return nodes.add("Flatten", value, axis=1)  # (batch, *shape) -> (batch, features)
    if name == "cls":
        return nodes.add("Gather", value, nodes.constant(np.array(0)), axis=1)
    if layer.is_masked:
        return _over_tokens(nodes, value, name, mask)
    grid = GRID.fullmatch(name)
    value = _channels_first(nodes, value, layer)
    if grid:
        return _on_grid(nodes, value, layer, int(grid[1]), int(grid[2]))
    return _over_places(nodes, value, name, tuple(range(2, len(layer.shape) + 1)))


def _channels_first(nodes: Nodes, value: str, layer: Layer) -> str:
    """Return the value as ``(batch, channels, …)``, without the tokens that are not of the input."""
    rank = len(layer.shape) + 1
    if layer.kind == "tokens":
        if layer.prefix_tokens:
            assert layer.shape[0] is not None
            own = nodes.integers(*range(layer.prefix_tokens, layer.shape[0]))
            value = nodes.add("Gather", value, own, axis=1)
        return nodes.add("Transpose", value, perm=(0, 2, 1))  # (batch, tokens, features) -> (batch, features, tokens)
    if layer.channel_axis == -1:
        return nodes.add("Transpose", value, perm=(0, rank - 1, *range(1, rank - 1)))
    return value


def _over_places(nodes: Nodes, value: str, name: str, places: tuple[int, ...]) -> str:
    if name == "max":
        return nodes.reduce("ReduceMax", value, places)
    if name == "gem":
        return _root(nodes, nodes.reduce("ReduceMean", _power(nodes, value), places))
    return nodes.reduce("ReduceMean", value, places)


def _over_tokens(nodes: Nodes, value: str, name: str, mask: str) -> str:
    """Pool ``(batch, tokens, features)`` over the tokens whose mask is 1; what stands at the others may be anything."""
    column = nodes.add("Reshape", mask, nodes.integers(0, 0, 1))  # (batch, tokens) -> (batch, tokens, 1)
    counted = nodes.cast(column, "BOOL")
    if name == "max":
        return nodes.reduce("ReduceMax", nodes.add("Where", counted, value, nodes.floats(LOWEST)), (1,))
    powers = _power(nodes, value) if name == "gem" else value
    total = nodes.reduce("ReduceSum", nodes.add("Where", counted, powers, nodes.floats(0.0)), (1,))
    tokens = nodes.reduce("ReduceSum", nodes.cast(column, "FLOAT"), (1,))
    mean = nodes.add("Div", total, nodes.add("Max", tokens, nodes.floats(1.0)))
    return _root(nodes, mean) if name == "gem" else mean


def _power(nodes: Nodes, value: str) -> str:
    return nodes.add("Pow", nodes.add("Max", value, nodes.floats(GEM_FLOOR)), nodes.floats(GEM_POWER))


def _root(nodes: Nodes, value: str) -> str:
    return nodes.add("Pow", value, nodes.floats(1 / GEM_POWER))


def _on_grid(nodes: Nodes, value: str, layer: Layer, rows: int, columns: int) -> str:
    """Average over the cells of a grid: a product with the shares of the rows and one with those of the columns."""
    sides = [side for side in (layer.shape[1:] if layer.channel_axis == 0 else layer.shape[:-1]) if side is not None]
    height, width = sides
    across = nodes.add("MatMul", value, nodes.constant(_shares(columns, width).T.copy()))
    cells = nodes.add("MatMul", nodes.constant(_shares(rows, height)), across)
    return nodes.add("Flatten", cells, axis=1)  # (batch, channels, rows, columns) -> (batch, features)


def _shares(cells: int, side: int) -> NDArray[np.float32]:
    """Return which share of each cell each place is, ``(cells, side)``; cells of unequal size may overlap."""
    shares = np.zeros((cells, side), np.float32)
    for cell in range(cells):
        start, end = cell * side // cells, -(-(cell + 1) * side // cells)
        shares[cell, start:end] = 1 / (end - start)
    return shares
