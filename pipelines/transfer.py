"""``TransferClassifier``: a backbone's features and a head behind ``fit`` and ``predict`` on raw items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..errors import InputError
from ..extract.decode import MAX_PIXELS
from ..extract.extractor import Extractor
from ..extract.job import extract
from ..extract.sources.opening import open_source
from ..extract.store.feature_store import FeatureStore, is_store
from ..heads.registry import resolve_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..extract.graph import ExportedGraph
    from ..models.backbone import Backbone
    from ..models.loading import BackboneSpec


def _head_has(method: str) -> Any:
    """Tell scikit-learn whether the head offers a method."""

    def check(self: TransferClassifier) -> bool:
        head = getattr(self, "head_", None)
        return hasattr(resolve_head(self.head) if head is None else head, method)

    return available_if(check)


class TransferClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A frozen backbone with a trained head.

    Parameters
    ----------
    backbone, layer, pool
        As for :class:`topwork.Extractor`.
    head : str or estimator
        A name from ``topwork heads``, or any scikit-learn classifier.
    store : path, optional
        A feature store that is made, or added to, by ``fit``: what is in it is not computed again.
    precision, provider, batch_size, on_error, max_pixels
        As for :class:`topwork.Extractor`.

    Attributes
    ----------
    extractor_ : Extractor
    head_ : estimator
        Fitted on the features.
    classes_ : ndarray
        The labels, as they were given.
    n_rows_ : int
        Number of items that the head was trained on.
    failures_ : list of (str, str)
        Id and reason of items that could not be used.

    Examples
    --------
    >>> red, blue = (np.full((40, 40, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    >>> TransferClassifier("topwork:tiny", head="centroid").fit([red, blue], ["red", "blue"]).predict([blue]).tolist()
    ['blue']
    """

    def __init__(
        self,
        backbone: str | BackboneSpec | Backbone | ExportedGraph = "topwork:tiny",
        layer: str | Sequence[str] = "last",
        pool: str | Sequence[str] = "avg",
        head: Any = "logreg",
        store: str | Path | None = None,
        precision: str = "auto",
        provider: str = "auto",
        batch_size: int | Literal["auto"] = "auto",
        on_error: str = "raise",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.pool = pool
        self.head = head
        self.store = store
        self.precision = precision
        self.provider = provider
        self.batch_size = batch_size
        self.on_error = on_error
        self.max_pixels = max_pixels

    @classmethod
    def from_store(
        cls, store: FeatureStore, layer: str | Sequence[str] | None = None, **options: Any
    ) -> TransferClassifier:
        """Return a classifier, not yet fitted, for the features of a store.

        Parameters
        ----------
        store : FeatureStore
        layer : str or sequence of str, optional
            By default all of the store's layers, side by side.
        **options
            Other parameters of the classifier.
        """
        columns = store.columns
        pools = list(dict.fromkeys(column.pool for column in columns))
        return cls(store.graph, layer=layer or list(dict.fromkeys(c.layer for c in columns)), pool=pools, **options)

    def fit(self, X: Any, y: Any = None) -> TransferClassifier:
        """Compute features where none are stored, and train the head on them.

        Parameters
        ----------
        X : sequence, path or FeatureStore
            Paths, uint8 arrays or PIL images; a folder or archive; or a store, whose features are taken as they are.
        y : sequence, optional
            One label for each item (or row of the store). Left out, the source's own labels are used.

        Returns
        -------
        TransferClassifier
            Itself.

        Raises
        ------
        InputError
            If there is no label, or not one for each item.
        """
        self.extractor_ = self._extractor().fit(None)
        features, labels = self._labelled(X, y)
        self.head_ = resolve_head(self.head).fit(features, labels)
        self.classes_ = self.head_.classes_
        self.n_rows_ = len(features)
        return self

    def _extractor(self) -> Extractor:
        return Extractor(
            self.backbone,
            self.layer,
            self.pool,
            self.precision,
            self.provider,
            self.batch_size,
            self.on_error,
            self.max_pixels,
        )

    def _labelled(self, X: Any, y: Any) -> tuple[NDArray[np.float32], Any]:
        """Return features and labels of the items that have both."""
        if isinstance(X, FeatureStore):
            return self._features(X), _checked_labels(X.labels if y is None else y, len(X.ids))
        source = open_source(X)
        labels = _checked_labels([item.label for item in source] if y is None else y, len(source))
        if self.store is None:
            features = self._features(X)
            return features, labels[self.extractor_.kept_]
        store = self._filled_store(X, labels)
        rows = {item_id: row for row, item_id in enumerate(store.ids)}
        places = [(position, rows[item.id]) for position, item in enumerate(source) if item.id in rows]
        kept, wanted = (np.array(side, np.intp) for side in zip(*places, strict=True))
        return self._features(store)[wanted], labels[kept]

    def _filled_store(self, X: Any, labels: Any) -> FeatureStore:
        assert self.store is not None
        if is_store(self.store):
            store = FeatureStore.open(self.store)
            store.require_columns(self.extractor_.graph.metadata.identity, self.extractor_.columns)
        else:
            store = FeatureStore.create(self.store, self.extractor_)
        ledger = extract(
            X,
            store,
            labels=None if isinstance(X, (str, Path)) else labels,
            on_error=self.on_error,
            provider=self.provider,
            options=self.extractor_.run_options(),
        )
        self.failures_ = ledger.failures
        return store

    def _features(self, X: Any) -> NDArray[np.float32]:
        """Return the features of items, or those of a store if they are of the same backbone and columns."""
        if isinstance(X, FeatureStore):
            columns = self.extractor_.columns
            X.require_columns(self.extractor_.graph.metadata.identity, columns)
            self.failures_ = X.failures()
            matrices = [X.matrix(column.name) for column in columns]
            return matrices[0] if len(matrices) == 1 else np.concatenate(matrices, axis=1)
        features = self.extractor_.transform(X)
        self.failures_ = self.extractor_.failures_
        return features

    def predict(self, X: Any) -> NDArray[Any]:
        """Return a label for each item, of the kind that was given to ``fit``.

        Parameters
        ----------
        X : sequence, path or FeatureStore
        """
        check_is_fitted(self, "head_")
        return np.asarray(self.head_.predict(self._features(X)))

    @_head_has("predict_proba")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[np.floating[Any]]:
        """Return probabilities ``(n_items, n_classes)``, in the order of ``classes_``."""
        check_is_fitted(self, "head_")
        return np.asarray(self.head_.predict_proba(self._features(X)))

    @_head_has("decision_function")  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> NDArray[np.floating[Any]]:
        """Return the head's scores for each item."""
        check_is_fitted(self, "head_")
        return np.asarray(self.head_.decision_function(self._features(X)))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy on items; without `y`, on the source's own labels."""
        check_is_fitted(self, "head_")
        features, labels = self._features(X), None
        if isinstance(X, FeatureStore):
            labels = _checked_labels(X.labels if y is None else y, len(features))
        else:
            source = open_source(X)
            labels = _checked_labels([i.label for i in source] if y is None else y, len(source))[self.extractor_.kept_]
        return float(accuracy_score(labels, self.head_.predict(features), sample_weight=sample_weight))

    def save(self, path: str | Path) -> None:
        """Write a bundle; see :func:`topwork.pipelines.bundle.save`."""
        from .bundle import save

        save(self, Path(path))

    def to_onnx(self, path: str | Path) -> None:
        """Write backbone and head as one ONNX file; see :func:`topwork.pipelines.fuse.export_fused`."""
        from .fuse import export_fused

        export_fused(self, Path(path))

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that items are no matrix."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags


def _checked_labels(labels: Any, count: int) -> NDArray[Any]:
    array = np.asarray(labels)
    if array.ndim != 1 or len(array) != count:
        raise InputError(f"{count} items but labels of shape {array.shape}; expected one label for each item")
    missing = sum(label is None for label in array.tolist())
    if missing:
        raise InputError(
            f"{missing} of {count} items have no label; pass y, or put the items into folders named after their labels"
        )
    return array
