"""The features of the untouched ONNX file: the reference that a cut is compared with.

Preprocessing and pooling are those of :mod:`topwork.extract.graphs.reference_pooling`, which shares no code with the
nodes of the cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..reference_pooling import find_reference_mask, pool_reference, prepare_reference_inputs
from .inputs import complete_inputs
from .shapes import add_outputs, open_unoptimized
from .value_graph import OnnxGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...preprocess.preprocessor import Feed
    from ..cut import Cut


class Reference:
    """An ONNX file that also returns the values called `names`."""

    def __init__(self, graph: OnnxGraph, names: tuple[str, ...]) -> None:
        self.graph = graph
        self.names = names
        self.session = open_unoptimized(add_outputs(graph.model, names))

    def compute(self, cut: Cut, feed: Feed) -> list[NDArray[np.float32]]:
        """Return the pooled values of a batch of the cut's inputs: one matrix for each output of the cut.

        The cut's layers must be the values, in the same order.
        """
        spec = cut.backbone.input_spec
        arrays = prepare_reference_inputs(spec, feed)
        names = list(feed) if len(arrays) > 1 else [self.graph.data]
        inputs = complete_inputs(self.graph, spec, dict(zip(names, arrays, strict=True)))
        mask = find_reference_mask(spec, feed)
        if self.graph.mixes_items(spec):
            values = self.run_without_padding(inputs, mask=mask, has_texts=spec.has_mask)
        else:
            values = self.run(inputs)
        return pool_reference(values, cut.chosen, mask=mask, normalize=cut.normalize)

    def run_without_padding(
        self, inputs: dict[str, NDArray[Any]], *, mask: NDArray[Any], has_texts: bool
    ) -> list[NDArray[Any]]:
        """Run the file on each item of a batch alone, on texts without their padding, which is zero in the values."""
        values_of_items = []
        for number, item_mask in enumerate(mask):
            item = {name: array[number : number + 1] for name, array in inputs.items()}
            if has_texts:
                item = {name: array[:, : int(item_mask.sum())] for name, array in item.items()}
            values = self.run_item(item, 0, repeats=self.graph.fixed_batch or 1)
            if has_texts:
                values = [pad_tokens(value, item_mask) for value in values]
            values_of_items.append(values)
        return [np.concatenate(rows) for rows in zip(*values_of_items, strict=True)]

    def run(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the file on a batch, item by item if it allows one batch size only."""
        size = self.graph.fixed_batch
        if size is None:
            return list(self.session.run(self.names, inputs))
        item_count = len(next(iter(inputs.values())))
        values_of_items = [self.run_item(inputs, number, repeats=size) for number in range(item_count)]
        return [np.concatenate(rows) for rows in zip(*values_of_items, strict=True)]

    def run_item(self, inputs: dict[str, NDArray[Any]], number: int, *, repeats: int) -> list[NDArray[Any]]:
        """Run the file on a batch that repeats one item, and return the values of the first."""
        repeated = {name: np.repeat(array[number : number + 1], repeats, axis=0) for name, array in inputs.items()}
        return [value[:1] for value in self.session.run(self.names, repeated)]


def pad_tokens(value: NDArray[Any], mask: NDArray[Any]) -> NDArray[Any]:
    """Append zeros to the tokens of one text ``(1, tokens, features)``, up to the length of its mask."""
    if value.ndim != 3 or value.shape[1] != mask.sum():
        return value
    return np.pad(value, ((0, 0), (0, len(mask) - value.shape[1]), (0, 0)))
