"""What the untouched network yields at its layers: the reference that an exported graph is held to.

Nothing here looks at the traced graph's operations, only at its list of module calls: values are taken by hooks on the
modules, and cloned, as a later operation may overwrite them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ParityError
from ..models.image_spec import ImageSpec
from .layer import Layer
from .pooling import features_of
from .trace import LAST, Trace, calls, classifier_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ..models.input_spec import InputSpec
    from .cut import Cut
    from .preprocess.prepared import Feed


def reference(traced: Trace, cut: Cut, feed: Feed) -> list[NDArray[np.float32]]:
    """Run the network and pool what its modules yield.

    Parameters
    ----------
    traced : Trace
        Says which module calls there are.
    cut : Cut
        The layers and poolings.
    feed : dict of ndarray
        A batch of the graph's inputs.

    Returns
    -------
    list of ndarray of float32, shape (batch, features)
        One for each output of the cut.
    """
    import torch

    inputs = tuple(torch.from_numpy(array) for array in _network_inputs(traced.backbone.input_spec, feed))
    layers = tuple(dict.fromkeys(layer for layer, _ in cut.chosen))
    with torch.no_grad():
        values = _Watch(traced, layers).run(inputs)
        features = features_of([values[layer.name] for layer, _ in cut.chosen], cut, inputs[-1])
    return [x.numpy() for x in features]


def _network_inputs(spec: InputSpec, feed: Feed) -> list[NDArray[Any]]:
    """Return what enters the network, computed apart from the graph that is checked."""
    if not isinstance(spec, ImageSpec):
        return list(feed.values())
    (images,) = feed.values()
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    normalised = (images.astype(np.float32) / np.float32(255) - mean) / std
    return [np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))]  # (batch, 3, height, width)


class _Watch:
    """Hooks on the modules whose calls yield the wanted layers.

    A module object may have several names and be called several times: what identifies a call is the object and the
    number of the call.
    """

    def __init__(self, traced: Trace, layers: tuple[Layer, ...]) -> None:
        self.traced, self.layers = traced, layers
        self.modules = dict(traced.backbone.module.named_modules(remove_duplicate=False))
        self.numbers = dict(_call_numbers(traced, self.modules))
        self.values: dict[str, Tensor] = {}
        self.handles: list[Any] = []

    def run(self, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return the value of each layer."""
        for layer in self.layers:
            self._watch(layer)
        try:
            output = self.traced.backbone.run(inputs)
        finally:
            for handle in self.handles:
                handle.remove()
        self.values.setdefault(LAST, output)
        return self.values

    def _watch(self, layer: Layer) -> None:
        call = classifier_of(self.traced) if layer.name == LAST else layer.name
        if not call:
            return  # the network's output is its features
        seen = 0

        def take(values: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == self.numbers[call]:
                self.values[layer.name] = _tensor(values, layer)

        module = self.modules[_path(call)]
        if layer.name == LAST:
            before = module.register_forward_pre_hook(
                lambda _, args, named: take([*args, *named.values()]), with_kwargs=True
            )
            self.handles.append(before)
        else:
            self.handles.append(module.register_forward_hook(lambda _, inputs, output: take(output)))


def _tensor(values: Any, layer: Layer) -> Tensor:
    """Return a copy of the first tensor that has the layer's shape."""
    import torch

    for value in _flat(values):
        if isinstance(value, torch.Tensor) and _fits(value, layer):
            return value.clone()
    raise ParityError(
        f"the network yields nothing of shape {layer.shape} at {layer.name!r}, as its traced graph does. "
        "Nothing was kept; choose another layer."
    )


def _flat(values: Any) -> Iterator[Any]:
    """Yield what a module returned: a tensor, or several in tuples, lists and dictionaries."""
    if isinstance(values, Mapping):
        values = tuple(values.values())
    if isinstance(values, (tuple, list)):
        for value in values:
            yield from _flat(value)
    else:
        yield values


def _fits(value: Tensor, layer: Layer) -> bool:
    sizes = value.shape[1:]
    return len(sizes) == len(layer.shape) and all(
        wanted in (None, size) for size, wanted in zip(sizes, layer.shape, strict=True)
    )


def _call_numbers(traced: Trace, modules: dict[str, nn.Module]) -> Iterator[tuple[str, int]]:
    """Yield each module call of the graph with its number among the calls of the same object."""
    counts: Counter[int] = Counter()
    seen: set[str] = set()
    for node in traced.module.graph.nodes:
        for call in calls(node):
            if call not in seen and _path(call) in modules:
                seen.add(call)
                counts[id(modules[_path(call)])] += 1
                yield call, counts[id(modules[_path(call)])]


def _path(call: str) -> str:
    return call.partition("@")[0]
