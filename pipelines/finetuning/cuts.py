"""The cuts to train above: named ones, or a few that are spread over a backbone's depth, and the disk they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError, LayerError
from ...extract.graphs.candidate_layers import choose_candidate_layers
from ...extract.graphs.cutting import cutter_for
from ...extract.graphs.layer import INPUT, LAST
from ..estimators.candidate_features import find_named_layers, is_automatic

if TYPE_CHECKING:
    from ...extract.graphs.cut import Column
    from ...models.backbone import Backbone

N_CUTS = 4
"""Number of cuts that are compared if none is named."""
GIGABYTE = 1e9


def choose_cuts(backbone: Backbone, from_layer: str | Sequence[str], to: str) -> list[str]:
    """Return the layers to train above, in order of execution.

    They are those that are named, or for "auto" up to :data:`N_CUTS` ends of blocks below `to`. Raise a LayerError if
    one is no layer of the backbone, or nothing lies below `to`.
    """
    listed = cutter_for(backbone).layers()
    if not is_automatic(from_layer):
        names = [from_layer] if isinstance(from_layer, str) else list(from_layer)
        if not names:
            raise InputError("from_layer names no cut; expected a layer, several, or 'auto'")
        known = {layer.name for layer in find_named_layers(listed, [name for name in names if name != INPUT])}
        return [INPUT] * (INPUT in names) + [layer.name for layer in listed if layer.name in known]
    (end,) = find_named_layers(listed, [to])
    below = [layer for layer in listed if layer.flops < end.flops or layer.name == LAST]
    chosen = [layer.name for layer in choose_candidate_layers(below, N_CUTS + 1)]
    cuts = [name for name in chosen if name != LAST]
    if not cuts:
        raise LayerError(f"no layer that all data flow through lies below {to!r}; name a cut, such as {INPUT!r}")
    return cuts


def keep_within_disk(columns: Sequence[Column], n_rows: int, max_disk: float | None, dtype: str) -> list[str]:
    """Return the layers of columns of which whole maps fit into `max_disk` bytes together.

    Those with the largest maps are left out first. Raise an InputError if none is left.
    """
    sizes = {column.layer: n_rows * column.width * np.dtype(dtype).itemsize for column in columns}
    kept = dict(sizes)
    while kept and max_disk is not None and sum(kept.values()) > max_disk:
        del kept[max(kept, key=kept.__getitem__)]
    if kept:
        return list(kept)
    smallest = min(sizes, key=sizes.__getitem__)
    raise InputError(
        f"the maps of {smallest!r} for {n_rows} rows take {sizes[smallest] / GIGABYTE:.2f} GB, but max_disk allows "
        f"{(max_disk or 0) / GIGABYTE:.2f} GB; cut at a layer with smaller maps, train on fewer views, or allow more"
    )
