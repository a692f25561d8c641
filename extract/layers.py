"""``layers``: every legal cut of a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cutter import cutter_for
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

    Examples
    --------
    >>> import topwork
    >>> [layer.name for layer in topwork.layers(topwork.load_backbone("topwork:tiny"))][-3:]
    ['pool', 'fc', 'last']
    """
    return cutter_for(backbone).layers()
