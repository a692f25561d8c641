"""The part of ``Extractor`` that needs no scikit-learn: which graph computes which features, and how it runs.

The command line uses it instead of :class:`topwork.Extractor`, as importing scikit-learn takes longer than opening a
store. ``Extractor`` adds ``transform`` and the interface of scikit-learn.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ...errors import InputError
from ...progress_display import shows_progress
from ..engine.run_config import RunConfig
from ..engine.sampling import draw_items, is_reiterable, make_sampler
from ..graphs.cut import Column, CutRequest
from ..graphs.export import Samples, no_samples
from ..graphs.exported_graph import ExportedGraph
from ..graphs.graph_cache import graph_for
from ..graphs.pooling import AUTO, satisfies
from ..precision.choice import choose_precision
from ..precision.lowered import check_own_precision, locate_lowered_graph, lower_graph
from ..preprocess.by_kind import preprocessor_for
from ..preprocess.decode import MAX_PIXELS
from ..preprocess.preprocessor import Preprocessor
from ..runtime.providers import is_found_on_items, parse_family
from ..runtime.session import Session
from ..sources.item import Source
from ..sources.opening import open_items

if TYPE_CHECKING:
    from ...models.backbone import Backbone
    from ...models.loading import BackboneSpec
    from ..graphs.fidelity import Fidelity


class Extraction:
    """A backbone that is cut, exported and run; the parameters are those of :class:`topwork.Extractor`.

    Nothing is loaded or exported before the first use. The constructor, ``fit``, and everything about the graph, its
    columns, its session and its preprocessor are shared with :class:`topwork.Extractor`.
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
        progress: bool = False,
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
        self.progress = progress

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

    def check_parameters(self) -> None:
        """Raise an InputError for a parameter that is not allowed, before anything is loaded."""
        _ = self.run_config
        _ = self._request
        if not isinstance(self.normalize, (bool, np.bool_)):
            raise InputError(f"normalize={self.normalize!r} of Extractor: expected True or False")

    @property
    def graph(self) -> ExportedGraph:
        """The exported graph in its precision; made, or found in the cache, on first use."""
        if getattr(self, "_graph_key", None) != self._key:
            original = self._export(no_samples)
            if isinstance(self.backbone, ExportedGraph):
                check_own_precision(original, self.precision)
                self._use(original)
            else:
                self._use(lower_graph(original, self._current_precision))
        return self._graph

    def _export(self, samples: Samples) -> ExportedGraph:
        """Return the graph as it was exported, or given."""
        key = (self.backbone, self._request)
        if getattr(self, "_original_key", None) != key:
            self._original = graph_for(self.backbone, self._request, samples)
            self._original_key = key
        return self._original

    def _use(self, graph: ExportedGraph) -> None:
        """Compute with a graph until a parameter changes that it depends on."""
        self._graph = graph
        self._graph_key = self._key
        self._session: tuple[tuple[str, int], Session] | None = None  # with what it was opened for
        self._checked_batch_sizes: set[int] = set()
        self._largest_batch: int | None = None  # that fits into the memory, where that is known to be limited

    @property
    def _key(self) -> tuple[Any, CutRequest, str]:
        """Parameters that the graph depends on."""
        return self.backbone, self._request, self._current_precision

    @property
    def _current_precision(self) -> str:
        """Precision that was chosen or adopted, if it is one that the parameter asks for."""
        chosen = getattr(self, "precision_", "fp32")
        if self.precision in (AUTO, parse_family(chosen)):
            return chosen
        return self.precision

    @property
    def _request(self) -> CutRequest:
        layers = parse_names("layer", self.layer)
        pools = parse_names("pool", self.pool)
        return CutRequest(layers, pools, bool(self.normalize))

    def adopt(self, graph: ExportedGraph) -> None:
        """Compute from now on in the precision of a store's graph, unless another one was asked for by name.

        Parameters
        ----------
        graph : ExportedGraph
            Used itself where its precision was found on items; it must have the columns that are asked for.
        """
        precision = graph.metadata.precision
        stored_names = {column.name for column in graph.metadata.columns}
        if isinstance(self.backbone, ExportedGraph):
            return
        if self.precision not in (AUTO, parse_family(precision)) or not stored_names.issuperset(self._column_names()):
            return
        self.precision_ = precision
        if is_found_on_items(precision):
            self._use(graph)

    @property
    def identity(self) -> dict[str, Any]:
        """The input identity of the features: weights, architecture and its arguments, input."""
        return self._export(no_samples).metadata.identity

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns whose features ``transform`` concatenates."""
        graph = self.graph
        return tuple(graph.metadata.columns[number] for number in self._output_numbers(graph))

    @property
    def n_features_out_(self) -> int:
        """The number of features of an item."""
        return sum(column.width for column in self.columns)

    def _output_numbers(self, graph: ExportedGraph) -> list[int]:
        """Return which outputs of the graph are the columns, in the order of the layers."""
        numbers = {column.name: number for number, column in enumerate(graph.metadata.columns)}
        return [numbers[name] for name in self._column_names()]

    def _column_names(self) -> list[str]:
        """Return the names of the columns, in the order of the layers."""
        request = self._request
        names: list[str] = []
        for layer in request.layers:
            for column in self._export(no_samples).metadata.columns:
                is_pool_wanted = any(satisfies(column.pool, pool) for pool in request.pools)
                if column.layer == layer and is_pool_wanted:
                    names.append(column.name)
        return names

    @property
    def session(self) -> Session:
        """The graph, loaded on its provider, for one batch at a time."""
        return self._open_session(1)

    def _open_session(self, runs: int) -> Session:
        """Return the graph, loaded for a number of batches at a time."""
        graph = self.graph
        key = (self.provider, runs)
        opened = self._session  # read once: another thread may replace it
        if opened is None or opened[0] != key:
            opened = (key, graph.open(self.provider, runs))
            self._largest_batch = graph.find_largest_batch(opened[1])
            self._session = opened
            self._checked_batch_sizes = {1}
        return opened[1]

    def _check_batch_size(self, session: Session, batch_size: int) -> None:
        """Compare the graph with the model in batches of a size, once for each session."""
        if batch_size not in self._checked_batch_sizes:
            self.graph.check_batch_size(session, batch_size)
            self._checked_batch_sizes.add(batch_size)

    @property
    def preprocessor(self) -> Preprocessor:
        """Prepares items as inputs of the graph."""
        return preprocessor_for(self.graph.input_spec, self.max_pixels)

    @shows_progress("prepare")
    def fit(self, X: Any, y: Any = None) -> Self:
        """Export the graph, or find it in the cache, and choose its precision; nothing else is learned from the items.

        Parameters
        ----------
        X : sequence of items, source or None
            The first items check a graph that is exported now; some are drawn to judge precisions by.
        y : ignored

        Returns
        -------
        Extraction
            Itself.
        """
        self.check_parameters()
        original = self._export(make_sampler(X, self.max_pixels))
        if isinstance(self.backbone, ExportedGraph):
            check_own_precision(original, self.precision)
            chosen = original
        else:
            items = open_items(X, original.input_spec) if is_reiterable(X) else None
            draw = functools.partial(draw_items, items, max_pixels=self.max_pixels)
            chosen = choose_precision(original, self.run_config, draw, n_items=0 if items is None else len(items))
        self._settle_on(chosen)
        return self

    def settle_on(self, precision: str, fidelity: tuple[Fidelity, ...] = ()) -> None:
        """Compute from now on in a precision that ``fit`` judged.

        Parameters
        ----------
        precision : str
            As in a certificate, with the digest of its details.
        fidelity : tuple of Fidelity
            What was measured, for the certificate.
        """
        graph = locate_lowered_graph(self._export(no_samples), precision)
        self._settle_on(replace(graph, fidelity=fidelity))

    def _settle_on(self, graph: ExportedGraph) -> None:
        self.precision_ = graph.metadata.precision
        self._use(graph)

    def open(self, X: Any, labels: Sequence[Any] | None = None) -> Source:
        """Open a source of items of the kind that the backbone expects.

        Parameters
        ----------
        X : sequence, source or path
            See :func:`topwork.extract.sources.opening.open_source`.
        labels : sequence, optional
            A label for each item.
        """
        return open_items(X, self.graph.input_spec, labels)


def parse_names(parameter: str, names: str | Sequence[str]) -> tuple[str, ...]:
    """Return one or several names as a tuple.

    Raise an InputError, which names the parameter, if there is none, or one is not a string or empty.
    """
    parsed: tuple[str, ...] = ()
    if isinstance(names, str):
        parsed = (names,)
    elif isinstance(names, Iterable):
        parsed = tuple(names)
    if not parsed or not all(isinstance(name, str) and name for name in parsed):
        raise InputError(f"{parameter}={names!r} of Extractor: expected a name, or several")
    return parsed
