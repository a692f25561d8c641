"""``Extractor``: items in, features out, with scikit-learn's interface."""

from __future__ import annotations

import warnings
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from ...hardware import available_cores
from ..engine.engine import Result, Vectors, run
from ..engine.ledger import Stages
from ..engine.progress import Progress
from ..engine.run_config import ErrorPolicy
from ..graphs.exported_graph import ExportedGraph
from .extraction import Extraction

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Extractor(TransformerMixin, Extraction, BaseEstimator):  # type: ignore[misc]
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

    @classmethod
    def from_graph(cls, graph: ExportedGraph, **options: Any) -> Extractor:
        """Return an extractor for a graph that was exported before; torch is not needed to run it."""
        request = graph.metadata.request
        return cls(graph, request.layers, request.pools, request.normalize, **options)

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
        config = self.run_config
        source = self.open(X)
        vectors: list[Vectors] = []
        kept, failures = [], list[tuple[str, str]]()
        sizes, chosen = config.batch_sizes, self._chosen(self.graph)
        session = self._session_for(available_cores() if len(source) > sizes.batch_size else 1)
        stages = Stages()
        config.report(Progress(0, len(source)))
        with closing(run(source, session, self.preprocessor, sizes, stages)) as results:
            for position, result in enumerate(results):
                limit = stages.limiting(available_cores(), session.runs)
                config.report(Progress(position + 1, len(source), position + 1, limit))
                if result.vectors is None:
                    _record(result, failures, config.policy, len(source))
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


def _record(result: Result, failures: list[tuple[str, str]], policy: ErrorPolicy, total: int) -> None:
    failures.append((result.item.id, result.reason or ""))
    policy.check(len(failures), total, *failures[-1])
