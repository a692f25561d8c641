"""The features that a search compares: those of a store's or graph's layers, or of some layers of a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import LayerError, name_similar
from ...extract.extractor.extractor import Extractor
from ...extract.graphs.candidate_layers import choose_candidate_layers, choose_candidate_poolings
from ...extract.graphs.cutting import layers as list_layers
from ...extract.graphs.exported_graph import ExportedGraph
from ...extract.graphs.graph_cache import is_kept, load_or_reuse
from ...extract.graphs.pooling import AUTO
from ...extract.store.feature_store import FeatureStore
from ...models.loading import BackboneSpec, load_backbone
from .cut_search import Candidate, list_candidates
from .foreign_extractor import ForeignBackbone, ForeignExtractor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.graphs.cut import Column
    from ...extract.graphs.layer import Layer
    from ...models.backbone import Backbone

    Array = NDArray[Any]

MAX_ITEMS = 3000
"""Items by which layers are compared; of more, a sample."""


def open_candidates(
    backbone: str | BackboneSpec | Backbone | ExportedGraph | ForeignBackbone,
    store: FeatureStore | None,
    layer: Sequence[str] | None,
    pool: str | Sequence[str],
    **options: Any,
) -> tuple[Extractor, list[Candidate]]:
    """Return an extractor of the features that are compared, and the candidates.

    They are all columns of a store, or of a graph that was exported before, or else some layers of the backbone, with
    several poolings if `pool` is "auto". Layers can be named; the options are further parameters of the extractor.
    """
    if isinstance(backbone, ForeignBackbone):
        names = layer or [column.name for column in backbone.columns]
        parameters: dict[str, Any] = {"backbone": backbone, "layer": names, **options}
        extractor: Extractor = ForeignExtractor(**parameters)
        return extractor, list_candidates(extractor.columns)
    if store is not None:
        backbone = store.graph
    if isinstance(backbone, ExportedGraph):
        del options["normalize"]
        extractor = Extractor.from_graph(backbone, **options)
        if layer is not None:
            extractor.set_params(layer=layer)
        return extractor, list_candidates(extractor.columns)

    if isinstance(backbone, str):
        backbone = BackboneSpec(backbone)
    loaded = load_or_reuse(backbone) if isinstance(backbone, BackboneSpec) else backbone
    listed = list_layers(loaded)
    layers = choose_candidate_layers(listed) if layer is None else find_named_layers(listed, layer)
    has_own_first = is_automatic(pool)
    pools = choose_candidate_poolings(layers) if has_own_first else pool
    if options["precision"] == AUTO:
        options["precision"] = "fp32"
    own = backbone if is_kept(loaded) else loaded  # users may change the extractor's
    extractor = Extractor(own, layer=[layer.name for layer in layers], pool=pools, **options)
    depths = {layer.name: layer.flops for layer in layers}
    return extractor, list_candidates(extractor.columns, depths, has_own_first=has_own_first)


def find_named_layers(listed: Sequence[Layer], names: Sequence[str]) -> list[Layer]:
    """Return the layers of some names, in order of execution; raise a LayerError for one that is not listed."""
    known = {layer.name for layer in listed}
    unknown = [name for name in names if name not in known]
    if unknown:
        similar = name_similar(unknown[0], known)
        raise LayerError(f"{unknown[0]!r} is no layer of the backbone; {similar}`topwork layers` lists them all")
    return [layer for layer in listed if layer.name in names]


def is_automatic(names: Any) -> bool:
    """Return whether a parameter, of one name or several, is "auto"."""
    return names == AUTO or (isinstance(names, list | tuple) and list(names) == [AUTO])


def load_named(backbone: str | BackboneSpec | Backbone) -> Backbone:
    """Return a backbone, loaded if it is named."""
    if isinstance(backbone, str):
        return load_backbone(backbone)
    return backbone.load() if isinstance(backbone, BackboneSpec) else backbone


def split_columns(matrix: Array, columns: Sequence[Column]) -> dict[str, Array]:
    """Return the features of each column of a matrix in which they are concatenated."""
    ends = np.cumsum([column.width for column in columns])
    parts = np.split(matrix, ends[:-1], axis=1)
    return {column.name: part for column, part in zip(columns, parts, strict=True)}
