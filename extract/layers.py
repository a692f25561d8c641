"""``layers``: every legal cut of a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ExportError
from .cutter import cutter_for, routes_for
from .layer import Layer

if TYPE_CHECKING:
    from ..models.backbone import Backbone


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
