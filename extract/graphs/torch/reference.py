"""What the untouched network yields at its layers: the reference that an exported graph is held to.

Nothing here looks at the traced graph's operations, only at its list of module calls: values are taken by hooks on the
modules, and cloned, as a later operation may overwrite them.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ParityError
from ..layer import LAST, Layer
from ..pooling import features_of
from .module_calls import call_numbers, on_call, path_of, tensors_in
from .trace import Trace, calls_in_order, classifier_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ....models.input_spec import InputSpec
    from ...preprocess.preprocessor import Feed
    from ..cut import Cut


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
        values = _values(traced, layers, inputs)
        features = features_of([values[layer.name] for layer, _ in cut.chosen], cut, inputs[-1])
    return [x.numpy() for x in features]


def _network_inputs(spec: InputSpec, feed: Feed) -> list[NDArray[Any]]:
    """Return what enters the network, computed apart from the graph that is checked."""
    if spec.normalization is None:
        return list(feed.values())
    (images,) = feed.values()
    mean = np.array(spec.normalization.mean, np.float32)
    std = np.array(spec.normalization.std, np.float32)
    normalised = (images.astype(np.float32) / np.float32(255) - mean) / std
    return [np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))]  # (batch, 3, height, width)


def _values(traced: Trace, layers: tuple[Layer, ...], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Run the network and return the value of each layer, by hooks on the modules whose calls yield them."""
    modules = dict(traced.backbone.module.named_modules(remove_duplicate=False))
    numbers = call_numbers(modules, calls_in_order(traced.module))
    values: dict[str, Tensor] = {}
    with contextlib.ExitStack() as hooks:
        for layer in layers:
            call = classifier_of(traced) if layer.name == LAST else layer.name
            if not call:
                continue  # the network's output is its features

            def take(found: Any, layer: Layer = layer) -> None:
                values[layer.name] = _tensor(found, layer)

            module = modules[path_of(call)]
            hooks.enter_context(on_call(module, numbers[call], take, entering=layer.name == LAST))
        output = traced.backbone.run(inputs)
    values.setdefault(LAST, output)
    return values


def _tensor(values: Any, layer: Layer) -> Tensor:
    """Return a copy of the first tensor that has the layer's shape."""
    for value in tensors_in(values):
        if _fits(value, layer):
            copy: Tensor = value.clone()
            return copy
    raise ParityError(
        f"the network yields nothing of shape {layer.shape} at {layer.name!r}, as its traced graph does. "
        "Nothing was kept; choose another layer."
    )


def _fits(value: Tensor, layer: Layer) -> bool:
    sizes = value.shape[1:]
    return len(sizes) == len(layer.shape) and all(
        wanted in (None, size) for size, wanted in zip(sizes, layer.shape, strict=True)
    )
