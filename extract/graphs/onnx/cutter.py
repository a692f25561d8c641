"""Cut a model that is an ONNX file: its own operations are copied, none is translated, torch is not needed."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from ....errors import warn_caller
from ..layer import LAST, Layer
from .cut_model import cut_model
from .inputs import find_data_input
from .layers import describe_layer, list_layers
from .reference import Reference
from .tokens import find_own_pooling
from .trace import OnnxTrace, explain_last, find_value, trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ....models.backbone import OnnxBackbone
    from ...preprocess.preprocessor import Feed
    from ..cut import Cut
    from ..routes import Route


class OnnxCutter:
    """A model in an ONNX file; see :class:`topwork.extract.graphs.cut.Cutter`."""

    def __init__(self, backbone: OnnxBackbone, make_model: Callable[[OnnxTrace, Cut], Any] = cut_model) -> None:
        self.backbone = backbone
        self.make_model = make_model
        self._reference: Reference | None = None

    @cached_property
    def traced(self) -> OnnxTrace:
        """The file's graph with measured shapes."""
        return trace(self.backbone.path, find_data_input(self.backbone), self.backbone.input_spec)

    def layers(self) -> list[Layer]:
        """List the legal cuts in order of execution, ``last`` at the end."""
        return list_layers(self.traced)

    def describe(self, name: str) -> Layer:
        """Describe one layer, without the shares of parameters and FLOPs; any value of the file can be named, too."""
        explanation = explain_last(self.traced) if name == LAST else ""
        if explanation:
            warn_caller(explanation)
        return describe_layer(self.traced, name)

    def find_own_pooling(self) -> str:
        """Return how the model pools before its classifier, "" if that cannot be determined."""
        return self.backbone.pooling or find_own_pooling(self.traced)

    def digest_computation(self) -> str:
        """Return "": the digest of the file covers what it computes."""
        return ""

    def onnx_model(self, cut: Cut, route: Route, weights: Path) -> Any:
        """Return the ONNX model of a cut; there is only one route, as nothing is translated."""
        return self.make_model(self.traced, cut)

    def reference(self, cut: Cut, feed: Feed) -> list[NDArray[np.float32]]:
        """Return what the untouched file yields for a batch, pooled: one matrix for each output of the cut."""
        names = tuple(find_value(self.traced, layer.name).name for layer, _ in cut.chosen)
        if self._reference is None or self._reference.names != names:
            self._reference = Reference(self.traced.graph, names)
        return self._reference.compute(cut, feed)
