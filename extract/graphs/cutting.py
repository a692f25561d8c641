"""What cuts a backbone, how it can be exported, and the list of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import ExportError
from ...models.backbone import OnnxBackbone, TorchBackbone
from .cut import Cutter
from .layer import Layer
from .onnx.cutter import OnnxCutter
from .routes import DEFAULT_TRACING, ONNX_ROUTES, TORCH_ROUTES, Route, Tracing
from .torch.cutter import TorchCutter

if TYPE_CHECKING:
    from ...models.backbone import Backbone


def cutter_for(backbone: Backbone, tracing: Tracing = DEFAULT_TRACING) -> Cutter:
    """Return the cutter of a backbone, which traces a PyTorch module as described on first use."""
    if isinstance(backbone, OnnxBackbone):
        return OnnxCutter(backbone)
    assert isinstance(backbone, TorchBackbone)
    return TorchCutter(backbone, tracing)


def routes_for(backbone: Backbone) -> Sequence[Route]:
    """Return the ways to export a backbone, in the order in which they are tried."""
    return ONNX_ROUTES if isinstance(backbone, OnnxBackbone) else TORCH_ROUTES


def layers(backbone: Backbone) -> list[Layer]:
    """List the legal cuts of a backbone, in order of execution, ``last`` at the end.

    Parameters
    ----------
    backbone : Backbone
        As :func:`topwork.load_backbone` returns it.

    Returns
    -------
    list of Layer
        Every value that is the output of a named module, and ``last``.

    Raises
    ------
    ExportError
        If ``torch.export`` cannot follow the model in any way.

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
