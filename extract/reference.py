"""What the untouched network yields at its layers: the reference that an exported graph is held to.

Nothing here looks at the traced graph's operations, only at its list of module calls: values are taken by hooks on the
modules, and cloned, as a later operation may overwrite them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ParityError
from .layers import Layer
from .pooling import pooled
from .trace import LAST, Trace, calls, classifier_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from .cut import Cut


def reference(cut: Cut, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Run the network and pool what its modules yield.

    Parameters
    ----------
    cut : Cut
        The layers and poolings.
    images : ndarray of uint8, shape (batch, height, width, 3)

    Returns
    -------
    list of ndarray of float32, shape (batch, features)
        One for each output of the cut.
    """
    import torch

    spec = cut.backbone.input_spec
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255  # -> (batch, 3, height, width)
    inputs = (pixels - torch.tensor(spec.mean).view(1, 3, 1, 1)) / torch.tensor(spec.std).view(1, 3, 1, 1)
    values = _Watch(cut).run(inputs)
    return [pooled(values[layer.name], pool, layer).numpy() for layer, pool in cut.chosen]


class _Watch:
    """Hooks on the modules whose calls yield the wanted layers.

    A module object may have several names and be called several times: what identifies a call is the object and the
    number of the call.
    """

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self.modules = dict(cut.backbone.module.named_modules(remove_duplicate=False))
        self.numbers = dict(_call_numbers(cut.traced, self.modules))
        self.values: dict[str, Tensor] = {}
        self.handles: list[Any] = []

    def run(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return the value of each layer."""
        import torch

        for layer in {layer for layer, _ in self.cut.chosen}:
            self._watch(layer)
        try:
            with torch.no_grad():
                output = self.cut.backbone.module(inputs)
        finally:
            for handle in self.handles:
                handle.remove()
        self.values.setdefault(LAST, output)
        return self.values

    def _watch(self, layer: Layer) -> None:
        call = classifier_of(self.cut.traced, self.cut.backbone) if layer.name == LAST else layer.name
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

    several = values if isinstance(values, (tuple, list)) else [values]
    for value in several:
        if isinstance(value, torch.Tensor) and tuple(value.shape[1:]) == layer.shape:
            return value.clone()
    raise ParityError(
        f"the network yields nothing of shape {layer.shape} at {layer.name!r}, as its traced graph does. "
        "Nothing was kept; choose another layer."
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
