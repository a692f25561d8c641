"""``Extractor``: items in, features out, with scikit-learn's interface."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._set_output import _get_output_config

from ...errors import warn_caller
from ...hardware import available_cores
from ...progress import Progress
from ...progress_display import shows_progress
from ..engine.engine import compute_features
from ..engine.ledger import Stages
from ..engine.result import Result
from ..graphs.exported_graph import ExportedGraph
from .extraction import Extraction

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from ..sources.item import Item, Source


class ItemFeatures(NamedTuple):
    """Features ``(n_rows, n_features)`` of the items that could be used, and the failures of the others.

    `kept` holds the position of the item of each row among all items, `failures` the id and reason of each item that
    could not be used.
    """

    matrix: NDArray[np.float32]
    kept: NDArray[np.intp]
    failures: list[tuple[str, str]]


class Extractor(TransformerMixin, Extraction, BaseEstimator):  # type: ignore[misc]
    """Features of a frozen backbone, cut at one or several layers.

    Nothing is loaded or exported before the first use, so the estimator can be cloned and searched over for free.

    Parameters
    ----------
    backbone : str, BackboneSpec, Backbone or ExportedGraph
        What :func:`topwork.load_backbone` takes or returns, or a graph that was exported before.
    layer : str or sequence of str
        Names from :func:`topwork.layers`; ``"last"`` is the input of the model's own classifier.
    pool : str or sequence of str
        For feature maps ``"avg"``, ``"max"``, ``"gem"``, ``"flatten"``, or a grid such as ``"avg2x2"``; for tokens
        ``"mean"``, ``"max"``, ``"gem"`` (without class and register tokens and padding), ``"cls"``,
        ``"flatten"``; ``"cls+mean"`` concatenates two; ``"auto"`` does what the model does before its
        classifier, or takes the first of these that applies; ``"none"`` keeps whole maps, and all tokens of a text,
        for :class:`topwork.FineTunedClassifier`. A vector stays as it is.
    normalize : bool
        Divide each column's vectors by their length (L2 norm).
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}
        Arithmetic of the graph. ``"auto"`` lets ``fit`` take the fastest whose features of up to 256 of the items are
        close to those in float32: relative L2 error at most 0.02 at the 99th percentile and 0.05 at worst; of 5,000
        items or more if need be with some operations in float32. Before ``fit``, and with fewer than 32 items, it means
        float32. ``"int8"`` is calibrated on items by ``fit``.
    provider : str
        Where the graph runs: a name that ``topwork doctor`` lists, or ``"auto"`` for the fastest that is available.
    batch_size : int or "auto"
        Items per batch.
    on_error : str
        ``"raise"`` (default) stops at an item that cannot be decoded; ``"record"`` and ``"limit:N%"`` leave it out of
        the result, warn, and keep its reason in ``failures_``.
    max_pixels : int
        A larger image fails instead of being decoded.
    progress : bool
        Whether a bar is shown on a terminal or in a notebook.

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

    @classmethod
    def from_graph(cls, graph: ExportedGraph, **options: Any) -> Extractor:
        """Return an extractor for a graph that was exported before; torch is not needed to run it."""
        request = graph.metadata.request
        return cls(graph, layer=request.layers, pool=request.pools, normalize=request.normalize, **options)

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Compute the features of items.

        Parameters
        ----------
        X : sequence, or path
            Images are paths, uint8 arrays ``(height, width, 3)`` or PIL images; text is strings; tensors are arrays;
            or a folder, archive or table.

        Returns
        -------
        ndarray of float32, shape (n_items, n_features)
            Several layers are concatenated in the order given.

        Raises
        ------
        StoppedError
            By the error policy.
        """
        computed = self.compute(X)
        self.failures_ = computed.failures
        self.kept_ = computed.kept
        labelled: NDArray[np.float32] = self._label_rows(computed, X)
        return labelled

    def _label_rows(self, computed: ItemFeatures, X: Any) -> Any:
        """Return a DataFrame with the index labels of the items that have a row, if ``set_output`` asks for pandas.

        Without failures scikit-learn does so itself.
        """
        is_pandas = _get_output_config("transform", self)["dense"] == "pandas"
        if not (is_pandas and computed.failures and hasattr(X, "index") and hasattr(X, "iloc")):
            return computed.matrix
        import pandas as pd  # type: ignore[import-untyped]

        return pd.DataFrame(computed.matrix, index=X.index[computed.kept], columns=self.get_feature_names_out())

    @shows_progress("compute")
    def compute(self, X: Any) -> ItemFeatures:
        """Compute the features of items as :meth:`transform` does, and change nothing, so that threads may share it."""
        source = self.open(X)
        rows: list[NDArray[np.float32]] = []
        kept: list[int] = []
        failures: list[tuple[str, str]] = []
        with closing(self.iter_features(source)) as results:
            for position, (item, vector, reason) in enumerate(results):
                if vector is None:
                    failures.append((item.id, reason or ""))
                else:
                    rows.append(vector)
                    kept.append(position)
        if failures:
            n_failed = f"{len(failures)} of {len(source)} items failed"
            warn_caller(f"{n_failed} and have no row; see failures_ and kept_")
        matrix = np.stack(rows) if rows else np.empty((0, self.n_features_out_), np.float32)
        return ItemFeatures(matrix, np.array(kept, np.intp), failures)

    def iter_features(self, source: Source) -> Generator[tuple[Item, NDArray[np.float32] | None, str | None]]:
        """Yield each item of a source with its features ``(n_features,)``, or None and the reason why it has none.

        Raises
        ------
        StoppedError
            By the error policy.
        """
        numbers = self._output_numbers(self.graph)
        policy = self.run_config.policy
        failed = 0
        with closing(self._compute(source)) as results:
            for result in results:
                if result.vectors is None:
                    failed += 1
                    reason = result.reason or ""
                    policy.check(failed, len(source), result.item.id, reason)
                    yield result.item, None, reason
                else:
                    yield result.item, np.concatenate([result.vectors[number] for number in numbers]), None

    def _compute(self, source: Source) -> Generator[Result]:
        """Compute the items of a source, and report progress."""
        config = self.run_config
        sizes = config.batch_sizes
        total = len(source)
        runs = available_cores() if total > sizes.batch_size else 1  # a single batch uses all cores
        has_whole_batch = total >= sizes.batch_size
        session = self._open_session(runs)
        if config.has_automatic_batches:
            sizes = sizes.limit(self._largest_batch, runs)
        if has_whole_batch:
            self._check_batch_size(session, sizes.batch_size)
        stages = Stages()
        config.report(Progress(0, total))
        with closing(compute_features(source, session, self.preprocessor, sizes=sizes, stages=stages)) as results:
            for done, result in enumerate(results, 1):
                stage = stages.limiting(available_cores(), session.runs)
                config.report(Progress(done=done, total=total, computed=done, stage=stage))
                yield result

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the name of each feature: its column, an underscore, its number."""
        names = [f"{column.name}_{number}" for column in self.columns for number in range(column.width)]
        return np.array(names, dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the session out of a copy or a pickle, which opens its own."""
        state = dict(super().__getstate__())
        state["_session"] = None
        return state

    def __sklearn_tags__(self) -> Any:
        """Declare that items are not a matrix, and that nothing is learned from them."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags
