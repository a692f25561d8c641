"""The interface to what can be cut, traced PyTorch networks or ONNX graphs, and ``layers``, which lists the cuts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import ExportError
from ...models.onnx_backbone import OnnxBackbone
from ...models.torch_backbone import TorchBackbone
from .layer import Layer
from .routes import COPIED, ORDINARY, ROUTES, Route, Tracing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...models.backbone import Backbone
    from ..preprocess.preprocessor import Feed
    from .cut import Cut


class Cutter(Protocol):
    """A network whose layers are known."""

    backbone: Any
    """The :class:`Backbone` that is cut."""

    def layers(self) -> list[Layer]:
        """List the legal cuts in order of execution, ``last`` at the end."""

    def describe(self, name: str) -> Layer:
        """Describe one layer, without what lies below it.

        Raises
        ------
        LayerError
            If there is none of this name.
        """

    def own_pooling(self) -> str:
        """Return how the network pools before its classifier, "" if that cannot be told."""

    def onnx_model(self, cut: Cut, route: Route) -> Any:
        """Return the ONNX model of a cut: the graph's inputs in, one pooled matrix for each output."""

    def reference(self, cut: Cut, feed: Feed) -> list[NDArray[np.float32]]:
        """Return what the untouched network yields for a batch, pooled: one matrix for each output of the cut."""


def cutter_for(backbone: Backbone, tracing: Tracing = ORDINARY) -> Cutter:
    """Return what cuts a backbone.

    Raises
    ------
    ExportError
        If ``torch.export`` cannot follow the network.
    """
    if isinstance(backbone, OnnxBackbone):
        from .onnx.cutter import OnnxCutter

        return OnnxCutter(backbone)
    assert isinstance(backbone, TorchBackbone)
    from .torch.cutter import TorchCutter

    return TorchCutter(backbone, tracing)


def routes_for(backbone: Backbone) -> Sequence[Route]:
    """Return the ways to export a backbone, in the order in which they are tried."""
    return (COPIED,) if isinstance(backbone, OnnxBackbone) else ROUTES


def layers(backbone: Backbone) -> list[Layer]:
    """List the legal cuts of a backbone, in order of execution, ``last`` at the end.

    Parameters
    ----------
    backbone : Backbone
        As :func:`topwork.load_backbone` returns it.

    Returns
    -------
    list of Layer
        Every value that the output of a named module yields, and ``last``.

    Raises
    ------
    ExportError
        If ``torch.export`` cannot follow the network in any way.

    Examples
    --------
    >>> import topwork
    >>> [layer.name for layer in topwork.layers(topwork.load_backbone("topwork:tiny"))][-3:]
    ['pool', 'fc', 'last']
    """
    failures: list[ExportError] = []
    for tracing in dict.fromkeys(route.tracing for route in routes_for(backbone)):
        try:
            return cutter_for(backbone, tracing).layers()
        except ExportError as error:
            failures.append(error)
    raise failures[0]
