"""What classifiers and regressors on raw items share: features of items, with a head behind ``fit`` and ``predict``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from inspect import signature
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ...errors import InputError
from ...extract.extractor.extractor import Extractor
from ...extract.graphs.pooling import AUTO
from ...extract.preprocess.decode import MAX_PIXELS
from ...extract.sources.item import Source
from ...extract.sources.table import Table
from ...extract.sources.views import require_views
from ...extract.store.description import is_store
from ...extract.store.feature_store import FeatureStore
from ...heads.fit_report import fit_report
from ...heads.registry import DEFAULT, resolve_head
from ..bundle.lineage import hashes_of, lineage_of
from .features import (
    Features,
    admit,
    features_of,
    groups_of,
    ids_of,
    is_no_view,
    labels_of,
    n_axes,
    stored_features_of,
    viewed_features_of,
)
from .foreign_extractor import ForeignBackbone, ForeignExtractor
from .training_rows import TrainingRows, fit_head, one_for_each, weight_arguments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.graphs.exported_graph import ExportedGraph
    from ...models.backbone import Backbone
    from ...models.loading import BackboneSpec


class TransferEstimator(BaseEstimator):  # type: ignore[misc]
    """A frozen backbone with a head; what targets are is the matter of its subclasses."""

    metric: str

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
        cv: int = 5,
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.pool = pool
        self.head = head
        self.store = store
        self.normalize = normalize
        self.precision = precision
        self.provider = provider
        self.batch_size = batch_size
        self.on_error = on_error
        self.max_pixels = max_pixels
        self.views = views
        self.cv = cv

    @classmethod
    def from_store(cls, store: FeatureStore, layer: str | Sequence[str] | None = None, **options: Any) -> Self:
        """Return an estimator, not yet fitted, for the features of a store.

        Parameters
        ----------
        store : FeatureStore
        layer : str or sequence of str, optional
            By default all of the store's layers, side by side.
        **options
            Other parameters of the estimator.
        """
        if store.is_foreign:
            names = [column.name for column in store.columns] if layer is None else layer
            return cls(ForeignBackbone(store.identity, store.columns), names, **options)
        return cls.from_graph(store.graph, **({} if layer is None else {"layer": layer}), **options)

    @classmethod
    def from_graph(cls, graph: ExportedGraph, **options: Any) -> Self:
        """Return an estimator, not yet fitted, for a graph that was exported before.

        Parameters
        ----------
        graph : ExportedGraph
        **options
            Parameters of the estimator; layer and pool are by default all that the graph has.
        """
        request = graph.metadata.request
        cut = {"layer": request.layers, "pool": request.pools, "normalize": request.normalize}
        return cls(graph, **{**cut, **options})

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, groups: Any = None) -> Self:
        """Compute features where none are stored, train the head on them, and judge it.

        Parameters
        ----------
        X : sequence, path or FeatureStore
            Paths, uint8 arrays or PIL images, texts, or arrays of numbers; a folder, archive or table; or a store,
            whose features are taken as they are.
        y : array-like of shape (n_items,) or (n_items, n_targets), optional
            Targets of each item (or row of the store). Left out, the source's own labels are used.
        sample_weight : sequence of float, optional
            One weight for each item (or row of the store), for heads that take some; views have that of their item.
        groups : sequence, optional
            What belongs together, such as photographs of one animal: it is held out together where the head is judged
            or chooses its penalty. Views always go with their item.

        Returns
        -------
        Self
            Itself.

        Raises
        ------
        InputError
            If there is not one target (and weight) for each item, or no item can be used; if a parameter is wrong, or
            the head takes no weights.
        """
        self.__dict__.pop("head_", None)  # if this fit fails, the head of another must not meet its features
        self._check_parameters()
        self.extractor_, head = self._extractor(), self.unfitted_head(y)
        self.extractor_.check_parameters()
        if sample_weight is not None:
            weight_arguments(head)
        self._fit_extractor(X)
        data = self._opened(X, y)
        targets = self.as_targets(labels_of(data, y))
        self._require_learnable(targets)
        given = {"sample_weight": (sample_weight, float), "groups": (groups, None)}
        weights, groups = (
            None if values is None else one_for_each(values, name, len(targets), dtype)
            for name, (values, dtype) in given.items()
        )
        features = self._training_features(data)
        self.failures_ = features.failures
        if not len(features.matrix):
            raise InputError(f"no item can be used: {len(self.failures_)} failed{self._first_reason()}")
        kept, belong = features.kept, groups_of(data, features.kept, groups)
        weights = None if weights is None else weights[kept]
        self.train(head, TrainingRows(features.matrix, targets[kept], weights, belong, ids_of(data)[kept]))
        return self

    def train(self, head: Any, given: TrainingRows) -> None:
        """Fit and judge the head, and note what it was trained on."""
        rows = self._encoded(given)
        self.head_ = self._fitted(head, rows)
        self._note_head(rows)
        self.n_rows_, self.lineage_ = len(rows), lineage_of(self.extractor_, given)
        self.learned_ = None if given.ids is None else hashes_of(given.ids)
        self.fit_report_ = fit_report(
            self.head_,
            lambda some: self._fitted(resolve_head(head), rows.take(some)),
            rows.X,
            rows.y,
            groups=rows.groups,
            n_folds=self.cv,
            metric=self.metric,
            weights=rows.weights,
        )

    def _fitted(self, head: Any, rows: TrainingRows) -> Any:
        return fit_head(head, rows)

    @abstractmethod
    def _task(self, y: Any) -> str:
        """Return what the head has to be made for, of :data:`topwork.heads.registry.TASKS`."""

    @abstractmethod
    def n_columns(self) -> int | None:
        """Return the number of targets of each item, if they are columns of a matrix; None if targets are a vector."""

    @abstractmethod
    def as_targets(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return labels as targets ``(n_items,)`` or ``(n_items, n_targets)``."""

    def _require_learnable(self, targets: NDArray[Any]) -> None:
        """Raise an InputError if nothing can be learned of the targets."""

    def _encoded(self, rows: TrainingRows) -> TrainingRows:
        """Return the rows as the head takes them."""
        return rows

    def _note_head(self, rows: TrainingRows) -> None:
        """Note what the head has learned of the targets."""

    def _check_parameters(self) -> None:
        """Raise an InputError if a parameter that features have no part in is wrong."""
        require_views(self.views)
        if not isinstance(self.store, (str, PathLike, NoneType)):
            raise InputError(f"store={self.store!r} of {type(self).__name__}: expected a path")
        if not isinstance(self.cv, int | np.integer) or isinstance(self.cv, bool) or self.cv < 0 or self.cv == 1:
            raise InputError(f"cv={self.cv!r} of {type(self).__name__}: expected a number of folds, or 0 for none")

    def unfitted_head(self, y: Any) -> Any:
        """Return the head, unfitted; what is wrong with it is found before features are computed."""
        return resolve_head(self.head, self._task(y))

    def _fit_extractor(self, X: Any) -> None:
        """Let the extractor be that of the store, or be settled by the items."""
        if isinstance(X, FeatureStore):
            admit(X, self.extractor_)
        elif self.store is not None and is_store(self.store):
            FeatureStore.open(self.store).admit(self.extractor_)
        else:
            self.extractor_.fit(X)

    def _training_features(self, data: Source | FeatureStore) -> Features:
        """Return the features to train on, those of views among them."""
        if isinstance(data, FeatureStore):
            return features_of(self.extractor_, data)
        if self.store is not None:
            return stored_features_of(self.extractor_, data, Path(self.store), self.views or None)
        return (
            viewed_features_of(self.extractor_, data, self.views) if self.views else features_of(self.extractor_, data)
        )

    def _opened(self, X: Any, y: Any) -> Source | FeatureStore:
        """List a source once, so that features and labels are of the same items."""
        if isinstance(X, FeatureStore):
            return X
        own = isinstance(X, (str, Path, Table)) or (y is not None and n_axes(y) > 1)
        return self.extractor_.open(X, None if own else y)

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
        """Return the targets of each item, of the kind that was given to ``fit``.

        Parameters
        ----------
        X : sequence, path or FeatureStore
        """
        return self.predictions(self._features(X).matrix)

    @abstractmethod
    def predictions(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """Return predictions for features ``(n_items, n_features)``; there may be none."""

    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        """Return the score on items, views left out; without `y`, on the source's own labels."""
        check_is_fitted(self, "head_")
        data = self._opened(X, y)
        features = self._features(data)
        targets = self.as_targets(labels_of(data, y))
        is_own = is_no_view(data)[features.kept]
        if not is_own.any():
            raise InputError(f"no item can be scored: {len(self.failures_)} failed{self._first_reason()}")
        kept = features.kept[is_own]
        weights = None
        if sample_weight is not None:
            weights = one_for_each(sample_weight, "sample_weight", len(targets), float)[kept]
        return self.score_of(targets[kept], self.predictions(features.matrix[is_own]), weights)

    @abstractmethod
    def score_of(self, targets: NDArray[Any], predicted: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
        """Return the score of predictions."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what a bundle keeps of the fitted estimator beside graph and head, as JSON can hold it."""

    @abstractmethod
    def restore(self, facts: dict[str, Any], head: Any) -> None:
        """Take over a head and the :meth:`facts` that were kept of it."""

    def save(self, path: str | Path) -> None:
        """Write a bundle; see :func:`topwork.pipelines.bundle.bundle.save`."""
        from ..bundle.bundle import save

        save(self, Path(path))

    def to_onnx(self, path: str | Path) -> None:
        """Write backbone and head as one ONNX file; see :func:`topwork.pipelines.fused.fuse.export_fused`."""
        from ..fused.fuse import export_fused

        export_fused(self, Path(path))

    def _first_reason(self) -> str:
        return f", the first was {self.failures_[0][0]}: {self.failures_[0][1]}" if self.failures_ else ""

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that items are no matrix."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags
