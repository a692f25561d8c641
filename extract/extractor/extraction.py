"""Which graph computes which features, in which precision and where: an extractor without scikit-learn."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ...errors import InputError
from ..engine.run_config import RunConfig
from ..engine.sampling import drawn, samples_of
from ..graphs.cut import Column, CutRequest
from ..graphs.export import Samples, no_samples
from ..graphs.exported_graph import ExportedGraph
from ..graphs.graph_cache import graph_for
from ..graphs.pooling import AUTO
from ..precision.choice import choose_precision
from ..precision.lowered import given_in, graph_in
from ..preprocess.by_kind import preprocessor_for
from ..preprocess.decode import MAX_PIXELS
from ..preprocess.preprocessor import Preprocessor
from ..runtime.providers import is_found_on_items, parse_family
from ..runtime.session import Session
from ..sources.item import Source
from ..sources.opening import open_source

if TYPE_CHECKING:
    from ...models.backbone import Backbone
    from ...models.loading import BackboneSpec


class Extraction:
    """A backbone that is cut, exported and computed; the command line starts faster without importing scikit-learn.

    Parameters
    ----------
    backbone, layer, pool, normalize, precision, provider, batch_size, on_error, max_pixels
        See :class:`topwork.Extractor`.
    """

    def __init__(
        self,
        backbone: str | BackboneSpec | Backbone | ExportedGraph = "topwork:tiny",
        layer: str | Sequence[str] = "last",
        pool: str | Sequence[str] = AUTO,
        normalize: bool = False,
        precision: str = "auto",
        provider: str = "auto",
        batch_size: int | Literal["auto"] = "auto",
        on_error: str = "raise",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.pool = pool
        self.normalize = normalize
        self.precision = precision
        self.provider = provider
        self.batch_size = batch_size
        self.on_error = on_error
        self.max_pixels = max_pixels

    @property
    def graph(self) -> ExportedGraph:
        """The exported graph in its precision; made, or found in the cache, on first use."""
        if getattr(self, "_graph_key", None) != self._key():
            original, is_given = self._exported(no_samples), isinstance(self.backbone, ExportedGraph)
            self._use(given_in(original, self.precision) if is_given else graph_in(original, self._precision()))
        return self._graph

    def _exported(self, samples: Samples) -> ExportedGraph:
        """Return the graph as it was exported, or given."""
        key = self.backbone, self._request()
        if getattr(self, "_original_key", None) != key:
            self._original, self._original_key = graph_for(self.backbone, self._request(), samples), key
        return self._original

    def _use(self, graph: ExportedGraph) -> None:
        self._graph, self._graph_key = graph, self._key()
        self._session: Session | None = None
        self._session_key: tuple[str, int] | None = None

    def _key(self) -> tuple[Any, CutRequest, str]:
        return self.backbone, self._request(), self._precision()

    def _precision(self) -> str:
        """Return the precision that was found or adopted, if it is what the parameter asks for."""
        found = getattr(self, "precision_", "fp32")
        return found if self.precision in (AUTO, parse_family(found)) else self.precision

    def _request(self) -> CutRequest:
        return CutRequest(_names(self.layer), _names(self.pool), bool(self.normalize))

    def adopt(self, graph: ExportedGraph) -> None:
        """Compute from now on as a store's graph does, unless another precision was asked for by name.

        Parameters
        ----------
        graph : ExportedGraph
            Taken itself where its precision was found on items; it must have the columns that are wanted.
        """
        precision, there = graph.metadata.precision, {column.name for column in graph.metadata.columns}
        is_wanted = self.precision in (AUTO, parse_family(precision)) and there.issuperset(self._wanted())
        if is_wanted and not isinstance(self.backbone, ExportedGraph):
            self.precision_ = precision
            if is_found_on_items(precision):
                self._use(graph)

    @property
    def identity(self) -> dict[str, Any]:
        """The input identity of the features: weights, architecture and arguments, input."""
        return self._exported(no_samples).metadata.identity

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns whose features ``transform`` puts side by side."""
        graph = self.graph
        return tuple(graph.metadata.columns[i] for i in self._chosen(graph))

    @property
    def n_features_out_(self) -> int:
        """The number of features of an item."""
        return sum(column.width for column in self.columns)

    def _chosen(self, graph: ExportedGraph) -> list[int]:
        """Return the places of the wanted columns among the graph's outputs, in the order of the layers."""
        places = {column.name: place for place, column in enumerate(graph.metadata.columns)}
        return [places[name] for name in self._wanted()]

    def _wanted(self) -> list[str]:
        """Return the names of the columns, in the order of the layers."""
        columns, pools = self._exported(no_samples).metadata.columns, {*_names(self.pool), "none"}
        is_wanted = (lambda pool: True) if AUTO in pools else pools.__contains__
        return [c.name for layer in _names(self.layer) for c in columns if c.layer == layer and is_wanted(c.pool)]

    @property
    def session(self) -> Session:
        """The graph, loaded on its provider, for one batch at a time."""
        return self._session_for(1)

    def _session_for(self, runs: int) -> Session:
        graph, key = self.graph, (self.provider, runs)
        if self._session is None or self._session_key != key:
            self._session, self._session_key = graph.open(*key), key
        return self._session

    @property
    def preprocessor(self) -> Preprocessor:
        """What turns items into the graph's inputs."""
        return preprocessor_for(self.graph.input_spec, self.max_pixels)

    def fit(self, X: Any, y: Any = None) -> Self:
        """Export the graph, or find it in the cache, and choose its precision; nothing else is learned from the items.

        Parameters
        ----------
        X : sequence of items, source or None
            A graph that is exported now is checked with the first of them; some are drawn to judge precisions by.
        y : ignored

        Returns
        -------
        Extraction
            Itself.
        """
        self.check_parameters()
        original = self._exported(samples_of(X, self.max_pixels))
        if isinstance(self.backbone, ExportedGraph):
            chosen = given_in(original, self.precision)
        else:
            draw = functools.partial(drawn, X, max_pixels=self.max_pixels)
            chosen = choose_precision(original, self.run_config, draw)
        self.precision_ = chosen.metadata.precision
        self._use(chosen)
        return self

    def open(self, X: Any, labels: Sequence[Any] | None = None) -> Source:
        """Return the items of a source, as the backbone eats them; see ``open_source``."""
        return open_source(X, labels, kind=self.graph.input_spec.kind)

    def check_parameters(self) -> None:
        """Raise an error for a parameter that is not allowed, before anything is loaded."""
        _ = self.run_config
        self._request()
        if not isinstance(self.normalize, (bool, np.bool_)):
            raise InputError(f"normalize={self.normalize!r} of Extractor: expected True or False")

    @property
    def run_config(self) -> RunConfig:
        """The parameters that say how features are computed, checked."""
        return RunConfig(
            provider=self.provider,
            precision=self.precision,
            batch_size=self.batch_size,
            on_error=self.on_error,
            max_pixels=self.max_pixels,
            owner="Extractor",
        )


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    chosen = (names,) if isinstance(names, str) else tuple(names) if isinstance(names, Iterable) else ()
    if not chosen or not all(isinstance(name, str) and name for name in chosen):
        raise InputError(f"layer or pool {names!r}: expected a name, or several")
    return chosen
