"""The features of the untouched PyTorch module: the reference that an exported graph is compared with.

Nothing here looks at the traced graph's operations, only at its list of module calls: values are taken by hooks on the
modules, and copied, as a later operation may overwrite them. Preprocessing and pooling are those of
:mod:`topwork.extract.graphs.reference_pooling`, which shares no code with the graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from ....errors import ParityError
from ....models.module_output import iterate_tensors
from ..layer import INPUT, LAST, Layer
from ..reference_pooling import find_reference_mask, pool_reference, prepare_reference_inputs
from .module_calls import hook_call, module_name, number_calls
from .trace import Trace, calls_in_order, find_classifier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ...preprocess.preprocessor import Feed
    from ..cut import Cut


def compute_reference(traced: Trace, cut: Cut, feed: Feed) -> list[NDArray[np.float32]]:
    """Run the model on a batch of the graph's inputs, and pool what its modules return, as float32."""
    import torch

    inputs = prepare_reference_inputs(traced.backbone.input_spec, feed)
    layers = dict.fromkeys(layer for layer, _ in cut.chosen)
    with torch.no_grad():
        tensors = record_layers(traced, layers, tuple(torch.from_numpy(array) for array in inputs))
    values = (tensors[layer.name].double().numpy() for layer, _ in cut.chosen)
    mask = find_reference_mask(traced.backbone.input_spec, feed)
    return pool_reference(values, cut.chosen, mask=mask, normalize=cut.normalize)


def record_layers(traced: Trace, layers: Iterable[Layer], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Run the model on its own inputs, and return the value of each layer by name; ``last`` is always among them.

    The values are taken by hooks on the modules whose calls yield them.
    """
    modules = dict(traced.backbone.module.named_modules(remove_duplicate=False))
    numbers = number_calls(modules, calls_in_order(traced.module))
    values: dict[str, Tensor] = {}

    def record(layer: Layer, returned: Any) -> None:
        values[layer.name] = copy_layer_value(returned, layer)

    with contextlib.ExitStack() as hooks:
        for layer in layers:
            if layer.name == INPUT:
                values[INPUT] = inputs[0].clone()
                continue
            call = layer.name
            is_entry = False
            if layer.name == LAST:
                call = traced.backbone.last_layer or find_classifier(traced)
                is_entry = call != traced.backbone.last_layer
            if call:  # otherwise the model's output is its features
                module = modules[module_name(call)]
                hooks.enter_context(hook_call(module, numbers[call], partial(record, layer), entering=is_entry))
        output = traced.backbone.run(inputs)
    values.setdefault(LAST, output)
    return values


def copy_layer_value(returned: Any, layer: Layer) -> Tensor:
    """Return a copy of the first tensor of a module's output that has the layer's shape."""
    for tensor in iterate_tensors(returned):
        if has_shape(tensor, layer.shape):
            copy: Tensor = tensor.clone()
            return copy
    raise ParityError(
        f"the model yields nothing of shape {layer.shape} at {layer.name!r}, as its traced graph does. "
        "Nothing was kept; choose another layer."
    )


def has_shape(tensor: Tensor, shape: tuple[int | None, ...]) -> bool:
    """Return whether a batch holds values of a layer's shape; None stands for any size."""
    sizes = tensor.shape[1:]
    if len(sizes) != len(shape):
        return False
    return all(expected in (None, size) for size, expected in zip(sizes, shape, strict=True))
