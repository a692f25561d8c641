"""The base of ``TransferClassifier`` and ``TransferRegressor``: features and a head behind ``fit`` and ``predict``."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from inspect import signature
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils.validation import check_is_fitted

from ...errors import InputError, reason, warn_caller
from ...extract.extractor.extractor import Extractor, ItemFeatures
from ...extract.graphs.exported_graph import ExportedGraph
from ...extract.graphs.pooling import AUTO
from ...extract.preprocess.decode import MAX_PIXELS
from ...extract.sources.item import Source
from ...extract.sources.selected import SelectedSource
from ...extract.sources.table import Table
from ...extract.sources.views import require_views
from ...extract.store.description import is_store
from ...extract.store.feature_store import FeatureStore
from ...heads.familiarity import MIN_REFERENCE_ROWS, Familiarity, learn_familiarity
from ...heads.fit_report import fit_report
from ...heads.folds import draw_sample
from ...heads.label_formats import GivenLabels, read_labels
from ...heads.metrics import compute_score
from ...heads.registry import CLASSIFICATION, DEFAULT, resolve_head, set_head_parameters
from ...heads.targets import encode_labels
from ...large_arrays import take_rows
from ...progress import report_step
from ...progress_display import shows_progress
from ..bundle.bundle_files import BundleContents, write_bundle
from ..bundle.lineage import describe_training, hash_ids
from ..fused.fuse import FusedFile, export_fused
from ..fused.parity import FittedPipeline
from .candidate_features import MAX_ITEMS, is_automatic, open_candidates, split_columns
from .cut_search import Candidate, CutSearch, Features, search_cut
from .estimator_html import render_fit
from .explanation import Explanation, explain
from .foreign_extractor import ForeignBackbone, ForeignExtractor
from .item_features import (
    compute_features,
    compute_kept_features,
    compute_stored_features,
    compute_viewed_features,
    require_same_features,
    select_items,
)
from .item_labels import (
    check_item_weights,
    collect_labels,
    count_items,
    find_originals,
    find_unaltered,
    list_ids,
    number_groups,
    read_weights_and_groups,
    spread_over_windows,
)
from .item_splits import count_left_out, select_for_scoring, select_for_training
from .precision_scores import (
    FEATURES,
    FIDELITIES,
    FLOAT32,
    SCORE,
    LabelledSample,
    PrecisionScores,
    choose_by_score,
)
from .training_set import TrainingSet, fit_head, take_values, weight_arguments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...models.backbone import Backbone
    from ...models.loading import BackboneSpec


class LabelledFeatures(NamedTuple):
    """Features of labelled items without views, shape (n_items, n_features), their targets, and their weights."""

    matrix: NDArray[np.float32]
    targets: NDArray[Any]
    weights: NDArray[Any] | None


class TransferEstimator(BaseEstimator):  # type: ignore[misc]
    """A frozen backbone with a head; subclasses define what the targets are."""

    metric: str
    search_: CutSearch | None
    precisions_: PrecisionScores | None

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
        head_params: Mapping[str, Any] | None = None,
        progress: bool = False,
        fidelity: str = FEATURES,
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
        self.head_params = head_params
        self.fidelity = fidelity
        self.progress = progress

    # Construction.

    @classmethod
    def from_store(cls, store: FeatureStore, layer: str | Sequence[str] | None = None, **options: Any) -> Self:
        """Return an unfitted estimator for the features of a store.

        Parameters
        ----------
        layer : str or sequence of str, optional
            By default all of the store's layers, concatenated, with a warning if there are several.
        **options
            Other parameters of the estimator.
        """
        if layer is None and len(store.columns) > 1:
            listed = ", ".join(column.name for column in store.columns)
            warn_caller(
                f"the features of {store.path} are of several columns, which are concatenated: {listed}. "
                "Name those to use with layer=.",
            )
        if store.is_foreign:
            names = [column.name for column in store.columns] if layer is None else layer
            return cls(ForeignBackbone(store.identity, store.columns), names, **options)
        if layer is not None:
            options["layer"] = layer
        return cls.from_graph(store.graph, **options)

    @classmethod
    def from_graph(cls, graph: ExportedGraph, **options: Any) -> Self:
        """Return an unfitted estimator for a graph that was exported before.

        Parameters
        ----------
        **options
            Parameters of the estimator; layer and pool are by default all that the graph has.
        """
        request = graph.metadata.request
        cut = {"layer": request.layers, "pool": request.pools, "normalize": request.normalize}
        return cls(graph, **{**cut, **options})

    # Fitting.

    @shows_progress("fit")
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        groups: Any = None,
        split: str | Sequence[str] | None = None,
    ) -> Self:
        """Compute the features that are not stored yet, and train and evaluate the head on them.

        Parameters
        ----------
        X : sequence, path or FeatureStore
            Paths, uint8 arrays or PIL images, strings, or arrays of numbers; a folder, archive or table; or a store,
            whose features are used unchanged.
        y : array-like of shape (n_items,) or (n_items, n_targets), optional
            Targets of each item (or row of the store). By default the source's own labels are used. Items whose label
            is missing (None, NaN) are left out. Lists or sets of names, one for each item, are several labels.
        sample_weight : sequence of float, optional
            One weight for each item (or row of the store), for heads that accept weights; views have that of their
            item.
        groups : sequence, optional
            Group of each item, such as photographs of one animal: a group is held out together where the head is
            evaluated or chooses its penalty. Views are always in the group of their item.
        split : str or sequence of str, optional
            Splits of the source or store to train on. By default all that are not held out (``"val"``, ``"test"``,
            ``"dev"``, ``"eval"``, ``"holdout"``); ``left_out_`` then has the number of items of each of the others.

        Returns
        -------
        Self
            Itself.

        Raises
        ------
        InputError
            If there is not one target (and weight) for each item, or no item can be used; if a parameter is wrong, or
            the head does not accept weights.
        """
        self.__dict__.pop("head_", None)  # if this fit fails, an earlier head must not be used with new features
        # Check the parameters, before anything is computed.
        given = None if y is None else read_labels(y)
        self.check_parameters()
        self.search_ = None
        if self._chooses_layer:
            self.unfitted_head(None if given is None else given.values)  # an unsuitable head is named before the search
            self.search_ = self.search_cut(X, y, groups=groups, split=split)
        head = self._check_before_fit(given, sample_weight)
        self._fit_extractor(X)

        # Read and check what is given for each item.
        items = self.open_items(X, given)
        chosen, labels, targets = self._read_targets(items, given, split)
        if given is None:
            head = self.unfitted_head(targets)
        item_weights, item_groups = read_weights_and_groups(items, sample_weight, groups)
        if item_weights is not None:
            weight_arguments(head)
        self._note_items_without_use(items, chosen, labels)
        self.precisions_ = self._score_precisions(items, chosen[labels.is_labelled], targets, item_groups)

        # Compute the features of the labelled items, and train the head on them.
        features = self._compute_training_features(items, chosen, labels.is_labelled)
        self.failures_ = features.failures
        if not len(features.matrix):
            raise InputError(f"no item can be used: {describe_failures(self.failures_)}")
        kept = chosen[labels.is_labelled][features.kept]
        rows = TrainingSet(
            X=features.matrix,
            y=targets[features.kept],
            sample_weight=take_values(item_weights, kept),
            groups=number_groups(items, kept, item_groups),
            ids=list_ids(items)[kept],
            label_names=labels.names,
            is_original=find_unaltered(items, kept),
        )
        self.train(head, rows)
        return self

    def _check_before_fit(self, given: GivenLabels | None, sample_weight: Any) -> Any:
        """Build the extractor, and return the unfitted head, after checking what does not depend on the items."""
        self.extractor_ = self._build_extractor()
        head = self.unfitted_head(None if given is None else given.values)
        self.extractor_.check_parameters()
        if sample_weight is not None:
            weight_arguments(head)
        return head

    def _read_targets(
        self, items: Source | FeatureStore, given: GivenLabels | None, split: Any
    ) -> tuple[NDArray[np.intp], GivenLabels, NDArray[Any]]:
        """Return positions of the items that may be trained on, their labels, and the targets of those with one."""
        chosen = select_for_training(items, split)
        labels = collect_labels(items, given, chosen)
        targets = self.as_targets(labels.take_labelled())
        if given is None:
            self.require_own_labels(labels)
        self._require_learnable(targets)
        return chosen, labels, targets

    def _note_items_without_use(
        self, items: Source | FeatureStore, chosen: NDArray[np.intp], labels: GivenLabels
    ) -> None:
        """Count the items of other splits, and those without a label, of which the user is warned."""
        self.left_out_ = count_left_out(items, chosen)
        self.n_unlabelled_ = int((~labels.is_labelled).sum())
        if self.n_unlabelled_:
            warn_caller(f"{self.n_unlabelled_} of {len(chosen)} items have no label and are left out")

    def train(self, head: Any, given: TrainingSet) -> None:
        """Fit and evaluate the head, and record what it was trained on.

        The head is unfitted, or has a solution to start from; labels are as the user gave them.
        """
        rows = self._encode_labels(given)
        report_step(f"training the head on {len(rows)} rows")
        self.head_ = self._fit_head(head, rows)
        self._record_targets(rows)
        self.familiarity_ = self._learn_familiarity(rows)
        self.n_rows_ = len(rows)
        self.lineage_ = describe_training(self.extractor_, given.ids, given.y)
        self.learned_ = None if given.ids is None else hash_ids(given.ids)
        self._report_fit(head, rows)

    def _learn_familiarity(self, rows: TrainingSet) -> Familiarity | None:
        """Return what tells whether features are like those of the rows; None if there are too few rows."""
        return learn_familiarity(
            rows.X,
            rows.y,
            rows.groups,
            candidates=rows.find_rows_with_weight(),
            by_class=is_classifier(self) and rows.y.ndim == 1,
        )

    def _report_fit(self, head: Any, rows: TrainingSet) -> None:
        """Evaluate the fitted head on held-out rows; if that is impossible, keep the head and record the reason."""
        self.fit_report_ = None
        self.not_evaluated_ = None
        if self.cv == 0:
            return
        report_step("evaluating the head on held-out rows")
        try:
            self.fit_report_ = fit_report(
                self.head_,
                lambda fold: self._fit_head(resolve_head(head), rows.take(fold)),
                X=rows.X,
                y=rows.y,
                groups=rows.groups,
                n_folds=self.cv,
                metric=self.metric,
                weights=rows.sample_weight,
            )
        except Exception as error:  # whatever goes wrong here, the head is trained
            self.not_evaluated_ = reason(error)
            warn_caller(f"the head is trained but not evaluated: {self.not_evaluated_}")
            return
        if self.fit_report_ is None:
            self.not_evaluated_ = "no row can be held out, as each class or all rows are of a single row or group"

    def _fit_head(self, head: Any, rows: TrainingSet) -> Any:
        return fit_head(head, rows)

    def unfitted_head(self, y: Any) -> Any:
        """Return the head, unfitted; an unsuitable one is reported before features are computed."""
        return set_head_parameters(resolve_head(self.head, self.find_task(y)), self.head_params or {})

    def check_parameters(self) -> None:
        """Raise an InputError if a parameter that does not concern the features is wrong."""
        require_views(self.views)
        if not isinstance(self.store, (str, PathLike, NoneType)):
            raise InputError(f"store={self.store!r} of {type(self).__name__}: expected a path")
        if self.fidelity not in FIDELITIES:
            raise InputError(f"fidelity={self.fidelity!r} of {type(self).__name__}: expected 'features' or 'score'")
        if not isinstance(self.head_params, (Mapping, NoneType)):
            raise InputError(f"head_params={self.head_params!r} of {type(self).__name__}: expected a dictionary")
        is_integer = isinstance(self.cv, int | np.integer) and not isinstance(self.cv, bool)
        if not is_integer or self.cv < 0 or self.cv == 1:
            raise InputError(f"cv={self.cv!r} of {type(self).__name__}: expected a number of folds, or 0 for none")

    # Targets.

    @abstractmethod
    def find_task(self, y: Any) -> str:
        """Return the task that the head must support, one of :data:`topwork.heads.registry.TASKS`."""

    @abstractmethod
    def n_outputs(self) -> int | None:
        """Return the number of targets of each item if targets are a matrix; None if they are a vector."""

    @abstractmethod
    def as_targets(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return labels as targets ``(n_items,)`` or ``(n_items, n_targets)``."""

    def require_own_labels(self, labels: GivenLabels) -> None:
        """Raise an InputError if the labels of a source cannot be targets."""

    def _require_learnable(self, targets: NDArray[Any]) -> None:
        """Raise an InputError if nothing can be learned from the targets."""

    def as_known_targets(self, labels: GivenLabels) -> NDArray[Any]:
        """Return the targets of labelled items, to compare predictions with."""
        return self.as_targets(labels.take_labelled())

    def _encode_labels(self, rows: TrainingSet) -> TrainingSet:
        """Return the rows with targets of a type that the head accepts."""
        return rows

    def _record_targets(self, rows: TrainingSet) -> None:
        """Set the fitted attributes that describe the targets."""

    # Features.

    @property
    def _chooses_layer(self) -> bool:
        """Whether ``fit`` searches for the layer and pooling."""
        return is_automatic(self.layer)

    def _build_extractor(self) -> Extractor:
        options = self._extractor_options()
        if self._chooses_layer and self.search_ is not None:
            chosen = self.search_.chosen
            options |= {"layer": chosen.layers, "pool": chosen.pool}
        kind = ForeignExtractor if isinstance(self.backbone, ForeignBackbone) else Extractor
        return kind(**options)

    def _extractor_options(self) -> dict[str, Any]:
        """Return the parameters that are those of an extractor."""
        return {name: getattr(self, name) for name in signature(Extractor).parameters}

    def as_frozen(self) -> TransferEstimator:
        """Return the estimator whose head alone is trained: itself."""
        return self

    # The search for layer and pooling.

    def search_cut(self, X: Any, y: Any = None, groups: Any = None, split: Any = None) -> CutSearch:
        """Find the layer and pooling whose features a head learns most from; the parameters are those of ``fit``.

        Raise an InputError if there is nothing to compare.
        """
        features = self.collect_candidates(X, y, groups=groups, split=split)
        return search_cut(features, self.find_task(features.targets))

    def collect_candidates(
        self,
        X: Any,
        y: Any = None,
        groups: Any = None,
        split: Any = None,
        *,
        layers: Sequence[str] | None = None,
        max_items: int = MAX_ITEMS,
    ) -> Features:
        """Compute the features of all layers that are compared, of labelled items or a sample of them.

        The layers are those at the ends of a backbone's blocks, or those that are named.
        """
        given = None if y is None else read_labels(y)
        extractor, candidates = self._open_candidates(X, layers)
        items = self.open_items(X, given, extractor)

        # Draw items that may be trained on.
        chosen, labels, targets = self._read_targets(items, given, split)
        positions, targets = self._select_originals(items, chosen[labels.is_labelled], targets)
        n_labelled = len(targets)
        drawn = draw_sample(targets, max_items)
        positions, targets = positions[drawn], targets[drawn]

        # Compute their features.
        started = time.perf_counter()
        computed = self._compute_at(items, positions, extractor)
        seconds = time.perf_counter() - started
        kept = positions[computed.kept]
        _, item_groups = read_weights_and_groups(items, None, groups)
        return Features(
            matrices=split_columns(computed.matrix, extractor.columns),
            targets=targets[computed.kept],
            groups=number_groups(items, kept, item_groups),
            candidates=candidates,
            items=None if isinstance(items, FeatureStore) else SelectedSource(items, kept.tolist()),
            seconds=seconds,
            extractor=extractor,
            n_labelled=n_labelled,
        )

    def _select_originals(
        self, items: Source | FeatureStore, positions: NDArray[np.intp], targets: NDArray[Any]
    ) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Return positions of items without their views, and their targets; labels as positions among the classes."""
        is_original = find_originals(items)[positions]
        positions, targets = positions[is_original], targets[is_original]
        if self.find_task(targets) == CLASSIFICATION:
            targets = encode_labels(targets)[1]
        return positions, targets

    def _open_candidates(self, X: Any, layers: Sequence[str] | None) -> tuple[Extractor, list[Candidate]]:
        """Return an extractor of the layers that are compared, and the candidates."""
        store = X if isinstance(X, FeatureStore) else None
        if store is None and self._has_store:
            store = FeatureStore.open(self.store or "")
        options = self._extractor_options()
        return open_candidates(store=store, **options | {"layer": layers})

    @property
    def _has_store(self) -> bool:
        """Whether ``fit`` adds to a store that is there already."""
        return self.store is not None and is_store(self.store)

    def _fit_extractor(self, X: Any) -> None:
        """Make the extractor compute as the store does, or else fit it on the items."""
        if isinstance(X, FeatureStore):
            require_same_features(X, self.extractor_)
        elif self._has_store:
            FeatureStore.open(self.store or "").admit(self.extractor_, adds_columns=True)
        else:
            if self.store is not None and self.precision == AUTO and self.fidelity == FEATURES:
                self.extractor_.set_params(precision="fp32")  # so that other layers can be added to the new store
            self.extractor_.fit(X)

    def choose_precision(self, X: Any, split: Any = None) -> PrecisionScores | None:
        """Make the extractor for items with labels of their own, and choose its precision as ``fit`` does."""
        self.check_parameters()
        self.extractor_ = self._build_extractor()
        self._fit_extractor(X)
        items = self.open_items(X, None)
        chosen, labels, targets = self._read_targets(items, None, split)
        _, item_groups = read_weights_and_groups(items, None, None)
        return self._score_precisions(items, chosen[labels.is_labelled], targets, item_groups)

    def _score_precisions(
        self, items: Source | FeatureStore, positions: NDArray[np.intp], targets: NDArray[Any], item_groups: Any
    ) -> PrecisionScores | None:
        """Let a head choose the precision, by labelled items or a sample of them; None if that is settled otherwise."""
        if self.fidelity != SCORE or self.extractor_.precision == FLOAT32:
            return None
        is_fixed = self._has_store or isinstance(self.backbone, ExportedGraph | ForeignBackbone)
        if isinstance(items, FeatureStore) or is_fixed:
            warn_caller("fidelity='score' has no effect: the precision is that of the store, or of the graph")
            return None
        positions, targets = self._select_originals(items, positions, targets)
        drawn = draw_sample(targets, MAX_ITEMS)
        positions, targets = positions[drawn], targets[drawn]
        groups = number_groups(items, positions, item_groups)
        sample = LabelledSample(SelectedSource(items, positions.tolist()), targets, groups, self.find_task(targets))
        return choose_by_score(self.extractor_, sample)

    def open_items(
        self, X: Any, given: GivenLabels | None, extractor: Extractor | None = None
    ) -> Source | FeatureStore:
        """Return the items as a source, which is listed once, so that features and labels are of the same items."""
        if isinstance(X, FeatureStore):
            return X
        has_own_labels = isinstance(X, (str, Path, Table))
        labels = None if has_own_labels or given is None else given.to_item_labels()
        return (extractor or self.extractor_).open(X, labels)

    def _compute_training_features(
        self, items: Source | FeatureStore, chosen: NDArray[np.intp], is_labelled: NDArray[np.bool_]
    ) -> ItemFeatures:
        """Return the features to train on, including those of views, of the labelled ones of the chosen items.

        A store gets the features of all that are chosen. `kept` holds places among the labelled ones.
        """
        labelled = chosen[is_labelled]
        if isinstance(items, FeatureStore) or (self.store is None and not self.views):
            return self.compute_features_at(items, labelled)
        if self.store is None:
            return compute_viewed_features(self.extractor_, SelectedSource(items, labelled.tolist()), self.views)
        source = SelectedSource(items, chosen.tolist())
        features = compute_stored_features(self.extractor_, source, Path(self.store), views=self.views or None)
        return select_items(features, is_labelled)

    def compute_features_at(self, items: Source | FeatureStore, positions: NDArray[np.intp]) -> ItemFeatures:
        """Return the features of the items at some positions, of which `kept` holds the places."""
        features = self._compute_at(items, positions, self.extractor_)
        self.failures_ = features.failures
        return features

    def _compute_at(
        self, items: Source | FeatureStore, positions: NDArray[np.intp], extractor: Extractor
    ) -> ItemFeatures:
        if isinstance(items, FeatureStore):
            features = compute_features(extractor, items)
            matrix = take_rows(features.matrix, positions)
            return features._replace(matrix=matrix, kept=np.arange(len(positions)))
        return self._compute_items(SelectedSource(items, positions.tolist()), extractor)

    def _compute_items(self, X: Any, extractor: Extractor) -> ItemFeatures:
        """Return the features of items, which are kept in the estimator's store, if it has one, without labels."""
        if self._has_store and not isinstance(X, FeatureStore):
            return compute_kept_features(extractor, extractor.open(X), Path(self.store or ""))
        return compute_features(extractor, X)

    @shows_progress("compute")
    def _compute_features(self, X: Any) -> ItemFeatures:
        check_is_fitted(self, "head_")
        features = self._compute_items(X, self.extractor_)
        self.failures_ = features.failures
        return features

    # Prediction.

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the targets of items, of the type that was given to ``fit``."""
        return self.predict_features(self._compute_features(X).matrix)

    @abstractmethod
    def predict_features(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """Predict the targets of features ``(n_items, n_features)``; there may be no items."""

    def familiar(self, X: Any) -> NDArray[np.bool_]:
        """Check which items are like those that the head was trained on.

        An item is familiar if its features are not farther from the training rows than about 95 % of other rows like
        these are. Answers for other items cannot be relied on, however probable they are called.

        Parameters
        ----------
        X : sequence, path or FeatureStore
            As for ``predict``.

        Returns
        -------
        ndarray of shape (n_items,)
            Booleans.

        Raises
        ------
        InputError
            If no limit is known: the head was trained on fewer than 50 different items, or its bundle was saved by a
            version that kept none.
        """
        familiarity = self.require_familiarity()
        return familiarity.are_familiar(self._compute_features(X).matrix)

    def measure_unfamiliarity(self, X: Any) -> NDArray[np.float32]:
        """Measure how far items are from those that the head was trained on.

        Parameters
        ----------
        X : sequence, path or FeatureStore
            As for ``predict``.

        Returns
        -------
        ndarray of shape (n_items,)
            Larger for items that are less familiar; those up to ``familiarity_.limit`` are familiar. Infinite for
            features that are not finite.

        Raises
        ------
        InputError
            If the training rows are not known, as for ``familiar``.

        Notes
        -----
        The distance to a class is the mean distance to its 3 nearest training rows (Sun et al. 2022,
        https://arxiv.org/abs/2204.06507, use that to the k-th), in standard deviations of each feature. The result is
        the distance to the nearest class, less half of what the second nearest one is farther away: items between two
        classes are less familiar. For values and several labels it is the distance to the 3 nearest rows of all.

        At most 10,000 training rows are kept, each class in its share; views are not. The limit is calibrated on
        training rows, each compared with those of other groups.
        """
        familiarity = self.require_familiarity()
        return familiarity.measure(self._compute_features(X).matrix)

    def require_familiarity(self) -> Familiarity:
        """Return what tells whether features are familiar; raise an InputError if it is not known."""
        check_is_fitted(self, "head_")
        if self.familiarity_ is None:
            raise InputError(
                f"which items are familiar is not known: the head was trained on fewer than {MIN_REFERENCE_ROWS} "
                "different items, or an earlier version of topwork saved the bundle. Fit it again, on more items."
            )
        return self.familiarity_

    def explain(self, item: Any, label: Any = None) -> Explanation:
        """Compute what each place of an image contributes to the score of a label, as a map.

        Parameters
        ----------
        item : path, array or PIL image
            One image.
        label : label, optional
            By default the one that is predicted. For values there is none.

        Returns
        -------
        Explanation
            Its ``map``, float32 (height, width), has the mean ``score - intercept``; ``plot()`` draws it.

        Raises
        ------
        InputError
            If the head is not linear, the features are of several layers or normalized, or no image is given.
        ExportError
            If the features are no mean over the places of a map, as with the pooling ``max``.

        Notes
        -----
        The method is that of class-activation maps (Zhou et al. 2016, https://arxiv.org/abs/1512.04150), which is exact
        for linear heads on means. A head that was calibrated is not linear.
        """
        check_is_fitted(self, "head_")
        return explain(self, item, label)

    def _score(self, X: Any, y: Any, sample_weight: Any, split: Any) -> float:
        """Return the score on labelled items without their views; without `y`, on the source's own labels."""
        labelled = self._compute_labelled(X, y, split, sample_weight)
        predicted = self.predict_features(labelled.matrix)
        return self.score_predictions(labelled.targets, predicted, labelled.weights)

    def _compute_labelled(self, X: Any, y: Any, split: Any, sample_weight: Any = None) -> LabelledFeatures:
        """Return the features of labelled items without their views; without `y`, of those with a label of their own.

        Raise an InputError if there are none.
        """
        check_is_fitted(self, "head_")
        given = None if y is None else read_labels(y)
        items = self.open_items(X, given)
        positions = np.arange(count_items(items))
        if y is None or split is not None:
            positions = select_for_scoring(items, split)
        item_weights = check_item_weights(spread_over_windows(sample_weight, items), count_items(items))
        labels = collect_labels(items, given, positions)
        targets = self.as_known_targets(labels)
        labelled = positions[labels.is_labelled]
        features = self.compute_features_at(items, labelled)
        is_original = find_originals(items)[labelled[features.kept]]
        if not is_original.any():
            raise InputError(f"no item can be scored: {describe_failures(features.failures)}")
        kept = features.kept[is_original]
        return LabelledFeatures(
            matrix=take_rows(features.matrix, np.flatnonzero(is_original)),
            targets=targets[kept],
            weights=take_values(item_weights, labelled[kept]),
        )

    def score_predictions(
        self, targets: NDArray[Any], predicted: NDArray[Any], sample_weight: NDArray[Any] | None = None
    ) -> float:
        """Return the score of predictions; None in place of a label is wrong."""
        return compute_score(self.metric, targets, predictions=predicted, weights=sample_weight)

    # Representation.

    def _html_repr(self) -> str:
        """Return scikit-learn's representation as HTML, and what the head was trained on."""
        own = str(super()._html_repr())
        return own + render_fit(self) if hasattr(self, "head_") else own

    # Saving.

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write a bundle, which :func:`topwork.load` reads.

        Parameters
        ----------
        path : path
            Folder to write, see :func:`topwork.pipelines.bundle.bundle_files.write_bundle`.
        overwrite : bool
            Whether a bundle that is there already is replaced.

        Raises
        ------
        BundleError
            If `path` exists and is not a bundle, or is one and `overwrite` is False; or if a label cannot be written as
            JSON.
        """
        check_is_fitted(self, "head_")
        write_bundle(self._describe_bundle(), Path(path), self.extractor_.provider, overwrite=overwrite)

    def _describe_bundle(self) -> BundleContents:
        """Return what a bundle stores."""
        return BundleContents(
            properties=self._bundle_properties(),
            graph=self.extractor_.graph,
            columns=self.extractor_.columns,
            head=self.head_,
            head_name=self._head_name(),
            n_rows=self.n_rows_,
            fit_report=self.fit_report_,
            lineage=self.lineage_,
            learned_ids=self.learned_,
            familiarity=self.familiarity_,
        )

    def _head_name(self) -> str | None:
        """Return the name by which a bundle finds the unfitted head; None if the name alone does not describe it."""
        is_plain_name = isinstance(self.head, str) and not self.head_params
        return self.head if is_plain_name else None

    @abstractmethod
    def _bundle_properties(self) -> dict[str, Any]:
        """Return what the manifest of a bundle records of the targets, as JSON can hold it."""

    def restore(self, contents: BundleContents) -> None:
        """Set the fitted attributes from the contents of a bundle."""
        self.extractor_ = self._build_extractor().fit(None)
        self.head_ = contents.head
        self.n_rows_ = contents.n_rows
        self.fit_report_ = contents.fit_report
        self.not_evaluated_ = None
        self.search_ = None
        self.precisions_ = None
        self.n_unlabelled_ = 0
        self.lineage_ = contents.lineage
        self.learned_ = contents.learned_ids
        self.familiarity_ = contents.familiarity

    def to_onnx(self, path: str | Path, input: str | None = None, items: Any = None) -> FusedFile:  # noqa: A002
        """Write backbone and head as one ONNX file.

        Parameters
        ----------
        path : path
            File to write, see :func:`topwork.pipelines.fused.fuse.export_fused`.
        input : {"model-size", "any-size", "tokens", "tensor"}, optional
            Form of the file's input. Images are uint8 pixels of shape (n_items, height, width, 3), RGB and upright:
            of the size that the model expects ("model-size", the default), or of any size ("any-size"), which the graph
            resizes and crops as Pillow does; all images of one call have the same size. Texts are "tokens", and
            tensors "tensor".
        items : sequence or path, optional
            Items as for ``predict``, with some of which the file is compared as well before it is written.

        Returns
        -------
        FusedFile
            Its ``path``, ``input``, ``outputs`` and the number of real items that were compared, ``n_items``.

        Raises
        ------
        ExportError
            If there is no ONNX converter for the head, or it predicts labels of several types.
        ParityError
            If the outputs of the file differ from those of backbone and head run separately, or images that the graph
            resizes differ from Pillow's by more than one level on 0.1 % of the values.
        InputError
            If the backbone has no such form of input, or none of the items can be read.

        Notes
        -----
        The file's labels have the values of ``predict``: integers are int64, or uint64 if they are beyond it, booleans
        int64, floats float32 or float64, and texts strings. Labels of any other type are an ExportError.

        A file of several labels of each item has the output ``labels``, int64 of shape (n_items, n_labels), and their
        names in its metadata, as JSON under ``topwork.labels``.

        All named heads, trees, forests, boosted trees and ``GaussianNB`` are written with the decisions and ties of
        scikit-learn's ``predict``. All labels are compared before the file is written, those of ties as well: rows of
        zeros, on the axes, of small integers, between classes, and rows that the head remembers. Where
        scikit-learn computes in float32 and its rounding decides between classes, the file may decide as ``predict``
        does for the same features in float64. Of fitted rows that are equally near, ``knn`` takes those that
        scikit-learn takes in one thread; in several threads it may take others if there are more than 256 rows. Where
        the rounding of sums or exponentials decides, as for ``gp`` with equal rows in several classes, and for ``svm``
        with more than 15 features, the comparison ends in a ParityError.
        """
        check_is_fitted(self, "head_")
        return export_fused(
            self._fitted_pipeline(), Path(path), input, items=items, max_pixels=self.extractor_.max_pixels
        )

    @abstractmethod
    def _fitted_pipeline(self) -> FittedPipeline:
        """Return what a fused graph is made of."""

    def __sklearn_tags__(self) -> Any:
        """Declare that the input is not a matrix."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags


def describe_failures(failures: Sequence[tuple[str, str]]) -> str:
    """Return how many items failed, and why the first one did."""
    if not failures:
        return "0 failed"
    item_id, cause = failures[0]
    return f"{len(failures)} failed, the first was {item_id}: {cause}"
