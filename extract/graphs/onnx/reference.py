"""What the untouched ONNX file yields at its layers: the reference that a cut is held to.

Preprocessing and pooling are computed in NumPy, in double precision, and share no code with the nodes of the cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..layer import Layer
from ..pooling import GEM_FLOOR, GEM_POWER, GRID, NORM_FLOOR
from .shapes import fed, open_untouched, with_outputs
from .value_graph import OnnxGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ....models.input_spec import InputSpec
    from ...preprocess.preprocessor import Feed
    from ..cut import Cut


class Reference:
    """An ONNX file that returns some of its values, too.

    Parameters
    ----------
    graph : OnnxGraph
    names : sequence of str
        The values.
    """

    def __init__(self, graph: OnnxGraph, names: tuple[str, ...]) -> None:
        self.graph, self.names = graph, names
        self.session = open_untouched(with_outputs(graph.model, names))

    def features(self, cut: Cut, feed: Feed) -> list[NDArray[np.float32]]:
        """Return the pooled values of a batch: one matrix for each output of the cut."""
        spec = cut.backbone.input_spec
        mask = list(feed.values())[-1]
        found = []
        for value, (layer, pool) in zip(self._values(_network_inputs(self.graph, spec, feed)), cut.chosen, strict=True):
            rows = np.hstack([_pooled(value.astype(np.float64), name, layer, mask) for name in pool.split("+")])
            if cut.normalize:
                rows = rows / np.maximum(np.sqrt((rows**2).sum(1, keepdims=True)), NORM_FLOOR)
            found.append(rows.astype(np.float32))
        return found

    def _values(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the file, item by item if it allows one batch size only."""
        size = self.graph.fixed_batch
        if size is None:
            return list(self.session.run(self.names, inputs))
        rows = []
        for number in range(len(next(iter(inputs.values())))):
            item = {name: np.repeat(array[number : number + 1], size, 0) for name, array in inputs.items()}
            rows.append([value[:1] for value in self.session.run(self.names, item)])
        return [np.concatenate(values) for values in zip(*rows, strict=True)]


def _network_inputs(graph: OnnxGraph, spec: InputSpec, feed: Feed) -> dict[str, NDArray[Any]]:
    """Return what enters the network."""
    arrays = list(feed.values())
    if spec.normalization is not None:
        scaled = arrays[0].astype(np.float64) / 255
        normalised = (scaled - np.array(spec.normalization.mean)) / np.array(spec.normalization.std)
        arrays = [np.ascontiguousarray(normalised.transpose(0, 3, 1, 2), np.float32)]  # (batch, 3, height, width)
    names = list(feed) if len(arrays) > 1 else [graph.data]
    return fed(graph, dict(zip(names, arrays, strict=True)))


def _pooled(value: NDArray[Any], name: str, layer: Layer, mask: NDArray[Any]) -> NDArray[Any]:
    if name in ("none", "flatten"):
        return value.reshape(len(value), -1)
    if name == "cls":
        return value[:, 0]
    if layer.is_masked:
        texts = [text[kept != 0] for text, kept in zip(value, mask, strict=True)]
        return np.stack([_over_rows(text, name) for text in texts])
    if layer.kind == "tokens":
        return np.stack([_over_rows(item[layer.prefix_tokens :], name) for item in value])
    maps = np.moveaxis(value, -1, 1) if layer.channel_axis == -1 else value  # (batch, channels, …)
    grid = GRID.fullmatch(name)
    if grid:
        return _on_grid(maps, int(grid[1]), int(grid[2]))
    return np.stack([_over_rows(item.reshape(len(item), -1).T, name) for item in maps])


def _over_rows(rows: NDArray[Any], name: str) -> NDArray[Any]:
    """Pool one item's ``(places, features)``."""
    if name == "max":
        pooled: NDArray[Any] = rows.max(0)
    elif name == "gem":
        pooled = (np.maximum(rows, GEM_FLOOR) ** GEM_POWER).mean(0) ** (1 / GEM_POWER)
    else:
        pooled = rows.mean(0)
    return pooled


def _on_grid(maps: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Average over the cells of a grid, as torch's adaptive pooling bounds them."""
    height, width = maps.shape[2:]
    down = [slice(i * height // rows, -(-(i + 1) * height // rows)) for i in range(rows)]
    across = [slice(j * width // columns, -(-(j + 1) * width // columns)) for j in range(columns)]
    averages = [maps[:, :, i, j].mean((2, 3)) for i in down for j in across]
    return np.stack(averages, axis=2).reshape(len(maps), -1)  # (batch, channels, cells) -> (batch, features)
