"""Cutting a network that is an ONNX file: its own operations are copied, none is translated, torch is not needed."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from ....errors import InputError
from ....models.from_onnx import network_inputs, read_model
from ..layer import Layer
from .cut_model import cut_model
from .layers import describe, onnx_layers
from .reference import Reference
from .tokens import own_pooling
from .trace import OnnxTrace, trace_onnx, value_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ....models.onnx_backbone import OnnxBackbone
    from ...preprocess.preprocessor import Feed
    from ..cut import Cut
    from ..routes import Route


class OnnxCutter:
    """A network in an ONNX file; see :class:`topwork.extract.graphs.cutting.Cutter`."""

    def __init__(self, backbone: OnnxBackbone) -> None:
        self.backbone = backbone
        self._reference: Reference | None = None

    @cached_property
    def traced(self) -> OnnxTrace:
        """The file's graph with measured shapes."""
        spec = self.backbone.input_spec
        return trace_onnx(self.backbone.path, _data_input(self.backbone), spec)

    def layers(self) -> list[Layer]:
        """List the legal cuts in order of execution, ``last`` at the end."""
        return onnx_layers(self.traced)

    def describe(self, name: str) -> Layer:
        """Describe one layer, without what lies below it; any value of the file can be named, too."""
        return describe(self.traced, name)

    def own_pooling(self) -> str:
        """Return how the network pools before its classifier, "" if that cannot be told."""
        return self.backbone.pooling or own_pooling(self.traced)

    def onnx_model(self, cut: Cut, route: Route) -> Any:
        """Return the ONNX model of a cut; there is only one route, as nothing is translated."""
        return cut_model(self.traced, cut)

    def reference(self, cut: Cut, feed: Feed) -> list[NDArray[np.float32]]:
        """Return what the untouched file yields for a batch, pooled: one matrix for each output of the cut."""
        names = tuple(value_of(self.traced, layer.name).name for layer, _ in cut.chosen)
        if self._reference is None or self._reference.names != names:
            self._reference = Reference(self.traced.graph, names)
        return self._reference.features(cut, feed)


def _data_input(backbone: OnnxBackbone) -> str:
    """Return the name of the input that takes the items.

    Raises
    ------
    InputError
        If the file's inputs are not those of its input specification.
    """
    spec, inputs = backbone.input_spec, network_inputs(read_model(backbone.path))
    names = [port.name for port in inputs]
    shape = spec.item_shape
    if shape is None:
        wanted_names = [port.name for port in spec.graph_inputs]
        fits = set(wanted_names) <= set(names)
        wanted = f"the inputs {', '.join(wanted_names)}"
        data_input = wanted_names[0]
    else:
        fits = len(inputs) == 1 and _fits(inputs[0].axes, shape)
        wanted = f"one input of shape (batch, {', '.join(map(str, shape))})"
        data_input = names[0]
    if not fits:
        described = ", ".join(f"{port.name} {port.axes}" for port in inputs)
        raise InputError(f"{backbone.path} has the inputs {described}; its input specification wants {wanted}")
    return data_input


def _fits(axes: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    """Tell whether an input takes items of some shape."""
    return len(axes) == len(shape) + 1 and all(axis in (None, size) for axis, size in zip(axes[1:], shape, strict=True))
