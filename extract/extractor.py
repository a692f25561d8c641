"""``Extractor``: items in, features out, with scikit-learn's interface."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from ..errors import InputError
from .batching import AUTOMATIC, RunOptions
from .cut import Column, CutRequest
from .engine import Result, Vectors, run
from .export import Samples, no_samples
from .graph import ExportedGraph
from .graph_cache import graph_for
from .lowering.choice import choose_precision
from .lowering.lowered import given_in, graph_in
from .machine import available_cores
from .policy import ErrorPolicy
from .pooling import AUTO
from .precision import family, is_found_on_items, require_precision
from .preprocess.decode import MAX_PIXELS
from .preprocess.preprocessor import Preprocessor, preprocessor_for
from .progress import Progress, report
from .sampling import drawn, samples_of
from .session import Session
from .sources.opening import Source, open_source
from .stages import Stages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..models.backbone import Backbone
    from ..models.loading import BackboneSpec


class Extractor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Features of a frozen backbone, cut at one or several layers.

    Nothing is loaded or exported before the first use, so the estimator can be cloned and searched over for free.

    Parameters
    ----------
    backbone : str, BackboneSpec, Backbone or ExportedGraph
        What :func:`topwork.load_backbone` takes or returns, or a graph that was exported before.
    layer : str or sequence of str
        Names from :func:`topwork.layers`; ``"last"`` feeds the network's own classifier.
    pool : str or sequence of str
        For feature maps ``"avg"``, ``"max"``, ``"gem"``, ``"flatten"``, or a grid such as ``"avg2x2"``; for tokens
        ``"mean"``, ``"max"``, ``"gem"`` (without class and register tokens, without the padding of texts), ``"cls"``,
        ``"flatten"``; ``"cls+mean"`` puts two side by side; ``"auto"`` does what the network does before its
        classifier, or takes the first of these that applies. A vector stays as it is.
    normalize : bool
        Divide each column's vectors by their length (L2 norm).
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}
        Arithmetic of the graph. ``"auto"`` lets ``fit`` take the fastest whose features of up to 256 of the items are
        close to those in float32: relative L2 error at most 0.02 at the 99th percentile and 0.05 at worst; if need be
        with some operations in float32. Before ``fit``, and with fewer than 32 items, it means float32.
        ``"int8"`` is calibrated on items by ``fit``.
    provider : str
        Where the graph runs: a name that ``topwork doctor`` lists, or ``"auto"`` for the fastest that is there.
    batch_size : int or "auto"
        Items that are inferred at once.
    on_error : str
        ``"raise"`` (default) stops at an item that cannot be decoded; ``"record"`` and ``"limit:N%"`` leave it out of
        the result, warn, and keep its reason in ``failures_``.
    max_pixels : int
        A larger image fails instead of being decoded.

    Attributes
    ----------
    precision_ : str
        The precision that ``fit`` chose; with a digest behind it (``int8:3fa94c1b``) if it was found on items.
    failures_ : list of (str, str)
        Id and reason of the items that the last ``transform`` left out.
    kept_ : ndarray of int
        Positions of the items that are rows of the last result.

    Examples
    --------
    >>> images = np.zeros((3, 40, 50, 3), np.uint8)
    >>> Extractor("topwork:tiny", layer=["layer2", "last"]).fit_transform(images).shape
    (3, 120)
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

    @classmethod
    def from_graph(cls, graph: ExportedGraph, **options: Any) -> Extractor:
        """Return an extractor for a graph that was exported before; torch is not needed to run it."""
        request = graph.metadata.request
        return cls(graph, request.layers, request.pools, request.normalize, **options)

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
        return found if self.precision in (AUTO, family(found)) else self.precision

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
        is_wanted = self.precision in (AUTO, family(precision)) and there.issuperset(self._wanted())
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

    def fit(self, X: Any, y: Any = None) -> Extractor:
        """Export the graph, or find it in the cache, and choose its precision; nothing else is learned from the items.

        Parameters
        ----------
        X : sequence of items, source or None
            A graph that is exported now is checked with the first of them; some are drawn to judge precisions by.
        y : ignored

        Returns
        -------
        Extractor
            Itself.
        """
        self.run_options()
        original = self._exported(samples_of(X, self.max_pixels))
        if isinstance(self.backbone, ExportedGraph):
            chosen = given_in(original, self.precision)
        else:
            draw = functools.partial(drawn, X, max_pixels=self.max_pixels)
            chosen = choose_precision(original, self.provider, draw, self.precision)
        self.precision_ = chosen.metadata.precision
        self._use(chosen)
        self.n_features_out_ = sum(column.width for column in self.columns)
        return self

    def open(self, X: Any, labels: Sequence[Any] | None = None) -> Source:
        """Return the items of a source, as the backbone eats them; see ``open_source``."""
        return open_source(X, labels, kind=self.graph.input_spec.kind)

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Compute the features of items.

        Parameters
        ----------
        X : sequence, or path
            For images paths, uint8 arrays ``(height, width, 3)`` or PIL images; for texts strings; for tensors arrays;
            or a folder, archive or table.

        Returns
        -------
        ndarray of float32, shape (n_items, n_features)
            Several layers are side by side, in the order given.

        Raises
        ------
        StoppedError
            By the error policy.
        """
        policy, source = ErrorPolicy.parse(self.on_error), self.open(X)
        vectors: list[Vectors] = []
        kept, failures = [], list[tuple[str, str]]()
        options, chosen = self.run_options(), self._chosen(self.graph)
        session = self._session_for(available_cores() if len(source) > options.batch_size else 1)
        stages = Stages()
        report(Progress(0, len(source)))
        for position, result in enumerate(run(source, session, self.preprocessor, options, stages)):
            limit = stages.limiting(available_cores(), session.runs)
            report(Progress(position + 1, len(source), position + 1, limit))
            if result.vectors is None:
                _record(result, failures, policy, len(source))
            else:
                kept.append(position)
                vectors.append(tuple(result.vectors[i] for i in chosen))
        self.failures_, self.kept_ = failures, np.array(kept, np.intp)
        if failures:
            warnings.warn(
                f"{len(failures)} of {len(source)} items failed and have no row; see failures_ and kept_", stacklevel=2
            )
        return self._matrix(vectors)

    def _matrix(self, vectors: list[Vectors]) -> NDArray[np.float32]:
        matrix = np.empty((len(vectors), sum(column.width for column in self.columns)), np.float32)
        for row, parts in zip(matrix, vectors, strict=True):
            np.concatenate(parts, out=row)
        return matrix

    def run_options(self) -> RunOptions:
        """Return the options for the engine, checked."""
        require_precision(self.precision, "Extractor")
        if self.batch_size == "auto":
            return AUTOMATIC
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise InputError(f"batch_size={self.batch_size!r} of Extractor: expected a positive number or 'auto'")
        return RunOptions(self.batch_size)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return a name for each feature: its column's, an underscore, its number."""
        return np.array([f"{column.name}_{i}" for column in self.columns for i in range(column.width)], dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the session behind: it is opened again where the estimator goes."""
        return {name: value for name, value in super().__getstate__().items() if not name.startswith("_session")} | {
            "_session": None
        }

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that items are no matrix, and that nothing is learned from them."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    chosen = (names,) if isinstance(names, str) else tuple(names)
    if not chosen or not all(isinstance(name, str) and name for name in chosen):
        raise InputError(f"layer or pool {names!r}: expected a name, or several")
    return chosen


def _record(result: Result, failures: list[tuple[str, str]], policy: ErrorPolicy, total: int) -> None:
    failures.append((result.item.id, result.reason or ""))
    policy.check(len(failures), total, *failures[-1])
