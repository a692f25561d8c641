"""``TransferClassifier``: a backbone's features and a head behind ``fit`` and ``predict`` on raw items."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, is_classifier
from sklearn.metrics import accuracy_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..errors import InputError
from ..extract.extractor import Extractor
from ..extract.pooling import AUTO
from ..extract.preprocess.decode import MAX_PIXELS
from ..extract.sources.opening import Source
from ..extract.sources.table import Table
from ..extract.sources.views import require_views
from ..extract.store.description import is_store
from ..extract.store.feature_store import FeatureStore
from ..heads.registry import DEFAULT, resolve_head
from .features import Features, admit, features_of, is_no_view, labels_of, stored_features_of, viewed_features_of
from .foreign import ForeignBackbone, ForeignExtractor
from .weighting import fit_weighted, weight_arguments, weights_of

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
    normalize, precision, provider, batch_size, on_error, max_pixels
        As for :class:`topwork.Extractor`.
    views : int
        How many augmented versions of each image the head is trained on beside it (random crops, flips, colours); with
        a store they are computed once. Only images that may be trained on have some, see
        :class:`topwork.extract.sources.views.ViewedSource`.

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
        backbone: str | BackboneSpec | Backbone | ExportedGraph | ForeignBackbone = "topwork:tiny",
        layer: str | Sequence[str] = "last",
        pool: str | Sequence[str] = AUTO,
        head: Any = DEFAULT,
        store: str | Path | None = None,
        normalize: bool = False,
        precision: str = "auto",
        provider: str = "auto",
        batch_size: int | Literal["auto"] = "auto",
        on_error: str = "raise",
        max_pixels: int = MAX_PIXELS,
        views: int = 0,
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.pool = pool
        self.head = head
        self.store = store
        self.views = views
        self.normalize = normalize
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
        if store.is_foreign:
            names = [column.name for column in store.columns] if layer is None else layer
            return cls(ForeignBackbone(store.identity, store.columns), names, **options)
        return cls.from_graph(store.graph, **({} if layer is None else {"layer": layer}), **options)

    @classmethod
    def from_graph(cls, graph: ExportedGraph, **options: Any) -> TransferClassifier:
        """Return a classifier, not yet fitted, for a graph that was exported before.

        Parameters
        ----------
        graph : ExportedGraph
        **options
            Parameters of the classifier; layer and pool are by default all that the graph has.
        """
        request = graph.metadata.request
        cut = {"layer": request.layers, "pool": request.pools, "normalize": request.normalize}
        return cls(graph, **{**cut, **options})

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> TransferClassifier:
        """Compute features where none are stored, and train the head on them.

        Parameters
        ----------
        X : sequence, path or FeatureStore
            Paths, uint8 arrays or PIL images, texts, or arrays of numbers; a folder, archive or table; or a store,
            whose features are taken as they are.
        y : sequence, optional
            One label for each item (or row of the store). Left out, the source's own labels are used.
        sample_weight : sequence of float, optional
            One weight for each item (or row of the store), for heads that take some; views have that of their item.

        Returns
        -------
        TransferClassifier
            Itself.

        Raises
        ------
        InputError
            If there is not one label (and weight) for each item, if no item can be used, or if there is only one label;
            if a parameter is wrong, or the head takes no weights.
        """
        self.__dict__.pop("head_", None)  # if this fit fails, the head of another must not meet its features
        self.extractor_, head = self._extractor(), self._unfitted_head()
        self.extractor_.check_parameters()
        require_views(self.views)
        if sample_weight is not None:
            weight_arguments(head)
        if isinstance(X, FeatureStore):
            admit(X, self.extractor_)
        elif self.store is not None and is_store(self.store):
            FeatureStore.open(self.store).admit(self.extractor_)
        else:
            self.extractor_.fit(X)
        data = self._opened(X, y)
        labels = labels_of(data, y)
        weights = None if sample_weight is None else weights_of(sample_weight, len(labels))
        _require_two_classes(labels)
        features = self._training_features(data)
        self.failures_ = features.failures
        kept = features.kept
        self.head_ = self._fitted_head(head, features.matrix, labels[kept], None if weights is None else weights[kept])
        self.classes_ = self.head_.classes_
        self.n_rows_ = len(features.matrix)
        return self

    def _training_features(self, data: Source | FeatureStore) -> Features:
        """Return the features to train on, those of views among them."""
        if isinstance(data, FeatureStore):
            return features_of(self.extractor_, data)
        if self.store is not None:
            return stored_features_of(self.extractor_, data, Path(self.store), self.views or None)
        return (
            viewed_features_of(self.extractor_, data, self.views) if self.views else features_of(self.extractor_, data)
        )

    def _unfitted_head(self) -> Any:
        """Return the head, unfitted; what is wrong with it is found before features are computed."""
        if not isinstance(self.store, (str, PathLike, NoneType)):
            raise InputError(f"store={self.store!r} of TransferClassifier: expected a path")
        head = resolve_head(self.head)
        if not is_classifier(head):
            raise InputError(
                f"head is a {type(head).__name__}, which is no classifier; expected one that predicts labels"
            )
        return head

    def _fitted_head(
        self, head: Any, matrix: NDArray[np.float32], labels: NDArray[Any], weights: NDArray[Any] | None
    ) -> Any:
        if not len(matrix):
            raise InputError(f"no item can be used: {len(self.failures_)} failed{_first_reason(self.failures_)}")
        _require_two_classes(labels)
        return head.fit(matrix, labels) if weights is None else fit_weighted(head, matrix, labels, weights)

    def _opened(self, X: Any, y: Any) -> Source | FeatureStore:
        """List a source once, so that features and labels are of the same items."""
        if isinstance(X, FeatureStore):
            return X
        return self.extractor_.open(X, None if isinstance(X, (str, Path, Table)) else y)

    def _extractor(self) -> Extractor:
        names = signature(Extractor).parameters
        kind = ForeignExtractor if isinstance(self.backbone, ForeignBackbone) else Extractor
        return kind(**{name: getattr(self, name) for name in names})

    def _features(self, X: Any) -> Features:
        check_is_fitted(self, "head_")
        features = features_of(self.extractor_, X)
        self.failures_ = features.failures
        return features

    def predict(self, X: Any) -> NDArray[Any]:
        """Return a label for each item, of the kind that was given to ``fit``.

        Parameters
        ----------
        X : sequence, path or FeatureStore
        """
        matrix = self._features(X).matrix
        return np.asarray(self.head_.predict(matrix)) if len(matrix) else self.classes_[:0]

    @_head_has("predict_proba")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[np.floating[Any]]:
        """Return probabilities ``(n_items, n_classes)``, in the order of ``classes_``."""
        matrix = self._features(X).matrix
        return np.asarray(self.head_.predict_proba(matrix)) if len(matrix) else np.empty((0, len(self.classes_)))

    @_head_has("decision_function")  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> NDArray[np.floating[Any]]:
        """Return the head's scores for each item."""
        matrix = self._features(X).matrix
        if not len(matrix):  # a row of zeros tells how many columns there are
            return np.asarray(self.head_.decision_function(np.zeros((1, matrix.shape[1]), matrix.dtype)))[:0]
        return np.asarray(self.head_.decision_function(matrix))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy on items, views left out; without `y`, on the source's own labels."""
        check_is_fitted(self, "head_")
        data = self._opened(X, y)
        features = self._features(data)
        labels = labels_of(data, y)
        matrix, is_own = features.matrix, is_no_view(data)[features.kept]
        if not is_own.any():
            raise InputError(f"no item can be scored: {len(self.failures_)} failed{_first_reason(self.failures_)}")
        weights = None if sample_weight is None else weights_of(sample_weight, len(labels))[features.kept][is_own]
        return float(
            accuracy_score(labels[features.kept][is_own], self.head_.predict(matrix[is_own]), sample_weight=weights)
        )

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


def _require_two_classes(labels: NDArray[Any]) -> None:
    if len(labels) and len(set(labels.tolist())) < 2:
        raise InputError(f"all {len(labels)} items have the label {labels[0]!r}; expected at least two classes")


def _first_reason(failures: list[tuple[str, str]]) -> str:
    return f", the first was {failures[0][0]}: {failures[0][1]}" if failures else ""
