"""``LayerProbe``: which layer of which backbone a head learns most from, on the user's own items."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator

from ...errors import InputError
from ...extract.extractor.extractor import Extractor
from ...extract.graphs.cutting import layers as list_layers
from ...extract.graphs.exported_graph import ExportedGraph
from ...extract.graphs.pooling import AUTO
from ...extract.jobs.job import extract_features
from ...extract.preprocess.decode import MAX_PIXELS
from ...extract.store.feature_store import FeatureStore
from ...heads.feature_comparison import (
    Choice,
    HeldOutScores,
    choose_features,
    compare_features,
    compare_scores,
    estimate_choice,
)
from ...heads.label_formats import read_labels
from ...heads.metrics import ACCURACY, R2
from ...heads.registry import REGRESSION
from ...heads.transferability import Transferability, measure_transferability
from ...models.loading import RANDOM_WEIGHTS, BackboneSpec
from ...progress_display import shows_progress
from ..estimators.candidate_features import MAX_ITEMS, load_named, split_columns
from ..estimators.cut_search import Candidate, CutSearch, Features, search_cut
from ..estimators.precision_scores import LabelledSample, PrecisionScores, score_precisions
from ..estimators.transfer_classifier import TransferClassifier
from ..estimators.transfer_regressor import TransferRegressor
from .depth_curve import draw_depth_curve
from .probe_html import render_probe
from .probe_result import Baseline, ProbedFeatures, Recommendation
from .raw_inputs import describe_inputs

if TYPE_CHECKING:
    from ..estimators.transfer_estimator import TransferEstimator

BackboneLike = Any
ALL = "all"
RAW, RANDOM = "raw inputs", "random weights"
"""Names of the baselines."""
BYTES_PER_FEATURE = 4


class LayerProbe(BaseEstimator):  # type: ignore[misc]
    """Compare the layers of one or several backbones on your own items, and recommend one.

    Layers at the ends of the backbone's blocks are computed in one pass over the items, or a sample of them. A linear
    head is cross-validated on the features of each, then on other poolings of the best layers and on their
    concatenations. The recommendation is the cheapest that is as good as the best within one standard error of the
    paired difference, and at most one point worse.

    Parameters
    ----------
    backbone : str, BackboneSpec, Backbone, or a sequence of these
        What :class:`topwork.Extractor` takes. Of several, the best layer of each is compared with those of the others.
    task : {"classification", "regression"}
        Whether labels (one or several for each item) or values are predicted.
    layers : "auto", "all" or sequence of str
        About eight spread over depth, all of them, or those that are named.
    pool : str or sequence of str
        With "auto" the backbone's own pooling first, and others of the best layers.
    store : path, optional
        Store that gets the recommended features of all items.
    baselines : bool
        Whether heads are also trained on the raw inputs, and on the same backbone with random weights.
    max_items : int
        Largest number of items to compare by; of more, a sample with the same shares of classes.
    normalize, precision, provider, batch_size, on_error, max_pixels, progress
        As for :class:`topwork.Extractor`; the precision "auto" means float32 here.
    precisions : bool
        Whether a head is also trained on the recommended features in each precision that is faster than float32 here.

    Attributes
    ----------
    best_ : Recommendation
        What to use, and how good it is on items that did not choose it.
    table_ : list of ProbedFeatures
        All features that were compared.
    baselines_ : list of Baseline
        Raw inputs, and random weights.
    precisions_ : PrecisionScores or None
        What precisions cost, if they were compared; None for a store, or a graph that was exported before.
    n_items_, n_labelled_ : int
        Items that were compared by, and all that have a label and may be trained on.
    search_ : CutSearch
        The scores of all features of the recommended backbone on held-out items.
    features_ : ndarray of float32, shape (n_items, n_features)
        The recommended features of the items that were compared by.
    targets_ : ndarray of shape (n_items,) or (n_items, n_targets)
        Their targets; labels as positions among the sorted classes.
    groups_ : ndarray of shape (n_items,) or None
        Their groups.
    seconds_of_backbone_ : float or None
        Time that 1,000 items take in the whole backbone; None for a store.
    seconds_ : dict of str to float
        Time that the search took, by part: ``extract``, ``heads``, ``baselines``, ``precisions``,
        ``store``.
    store_ : FeatureStore or None
        Has the recommended features of all items; the store that was given, or that is named `store`.

    Notes
    -----
    The head is a linear discriminant analysis with a shrunken covariance, or ridge regression, in closed form, with the
    best of seven penalties, see :mod:`topwork.heads.closed_form`. Features that are hopeless on some hundred items are
    dropped before all are used (successive halving). The score of the recommendation is an estimate by bootstrap
    samples, each of which chooses anew and is scored by the items that it does not contain.

    Examples
    --------
    >>> import numpy as np
    >>> images = [np.full((32, 32, 3), shade, np.uint8) for shade in range(0, 240, 4)]
    >>> probe = LayerProbe("topwork:tiny", baselines=False).fit(images, [shade > 120 for shade in range(0, 240, 4)])
    >>> probe.best_.score > 0.8
    True
    """

    def __init__(
        self,
        backbone: BackboneLike = "topwork:tiny",
        task: str = "classification",
        layers: str | Sequence[str] = AUTO,
        pool: str | Sequence[str] = AUTO,
        store: str | Path | None = None,
        baselines: bool = True,
        max_items: int = MAX_ITEMS,
        normalize: bool = False,
        precision: str = "auto",
        provider: str = "auto",
        batch_size: int | Literal["auto"] = "auto",
        on_error: str = "raise",
        max_pixels: int = MAX_PIXELS,
        progress: bool = False,
        precisions: bool = False,
    ) -> None:
        self.backbone = backbone
        self.task = task
        self.layers = layers
        self.pool = pool
        self.store = store
        self.baselines = baselines
        self.precisions = precisions
        self.max_items = max_items
        self.normalize = normalize
        self.precision = precision
        self.provider = provider
        self.batch_size = batch_size
        self.on_error = on_error
        self.max_pixels = max_pixels
        self.progress = progress

    @shows_progress("probe")
    def fit(self, X: Any, y: Any = None, groups: Any = None, split: str | Sequence[str] | None = None) -> Self:
        """Compare the layers.

        Parameters
        ----------
        X, y, groups, split
            As for :meth:`topwork.TransferClassifier.fit`. Of a store all columns are compared, without the backbone.

        Returns
        -------
        Self
            Itself.

        Raises
        ------
        InputError
            If nothing can be compared: no labels, a single class, or no item that can be held out.
        """
        self._check_parameters()
        self.seconds_ = {"extract": 0.0, "heads": 0.0, "baselines": 0.0, "precisions": 0.0, "store": 0.0}
        backbones = name_backbones(self._list_backbones(X))
        probed = [self._probe(name, backbone, X, y, groups, split) for name, backbone in backbones.items()]

        # Choose among the features of all backbones.
        found = {name_features(one, candidate): (one, candidate) for one in probed for candidate in one.candidates}
        scores = {key: one.search.scores[candidate.name] for key, (one, candidate) in found.items()}
        costs = {key: one.cost(candidate, len(probed)) for key, (one, candidate) in found.items()}
        choice = choose_features(scores, costs.__getitem__)
        score, interval = estimate_choice(scores, costs.__getitem__)
        self.table_ = [one.describe(candidate, key, choice) for key, (one, candidate) in found.items()]
        winner, chosen = found[choice.chosen]
        self.best_ = Recommendation(
            backbone=winner.name,
            layer=",".join(chosen.layers),
            pool=chosen.pool,
            score=score,
            low=interval.low,
            high=interval.high,
            width=chosen.width,
            best=choice.best,
        )
        self.search_ = winner.search
        self.n_items_ = winner.search.n_items
        self.n_labelled_ = winner.features.n_labelled
        self.features_ = winner.features.join(chosen)
        self.targets_ = winner.features.targets
        self.groups_ = winner.features.groups
        self.seconds_of_backbone_ = winner.seconds

        # Compare them with what needs no trained backbone and with lower precisions, and store those of all items.
        self.baselines_ = self._measure_baselines(winner, chosen) if self.baselines else []
        self.precisions_ = self._score_precisions(winner, chosen, X) if self.precisions else None
        self.store_ = self._fill_store(winner, chosen, X, y)
        return self

    def _check_parameters(self) -> None:
        """Raise an InputError for a parameter that is not allowed."""
        if self.task not in ("classification", REGRESSION):
            raise InputError(f"task={self.task!r} of LayerProbe: expected 'classification' or 'regression'")
        is_count = isinstance(self.max_items, int | np.integer) and self.max_items > 1
        if not is_count:
            raise InputError(f"max_items={self.max_items!r} of LayerProbe: expected a number of items above 1")
        if isinstance(self.layers, str) and self.layers not in (AUTO, ALL):
            raise InputError(f"layers={self.layers!r} of LayerProbe: expected 'auto', 'all', or a list of names")
        if self.store is not None and not isinstance(self.store, str | Path):
            raise InputError(f"store={self.store!r} of LayerProbe: expected a path")

    def _list_backbones(self, X: Any) -> list[BackboneLike]:
        """Return the backbones to compare; for the rows of a store there is one."""
        if isinstance(X, FeatureStore):
            return [X]
        is_several = isinstance(self.backbone, list | tuple)
        backbones = list(self.backbone) if is_several else [self.backbone]
        if not backbones:
            raise InputError("backbone=[] of LayerProbe: expected at least one")
        return backbones

    def _probe(self, name: str, backbone: BackboneLike, X: Any, y: Any, groups: Any, split: Any) -> BackboneProbe:
        """Compare the layers of one backbone, or the columns of a store."""
        layers: Sequence[str] | None = None if isinstance(self.layers, str) else self.layers
        if self.layers == ALL and not isinstance(X, FeatureStore):
            backbone = load_named(backbone)
            layers = [layer.name for layer in list_layers(backbone)]
        estimator = self._make_estimator(backbone)
        features = estimator.collect_candidates(
            X, y, groups=groups, split=split, layers=layers, max_items=self.max_items
        )
        task = estimator.find_task(features.targets)
        search = search_cut(features, task)
        self.seconds_["extract"] += features.seconds
        self.seconds_["heads"] += search.seconds
        return BackboneProbe(name, estimator, features, search, task)

    def _make_estimator(self, backbone: BackboneLike) -> TransferEstimator:
        """Return an estimator that computes features as the probe is to."""
        kind = TransferRegressor if self.task == REGRESSION else TransferClassifier
        shared = ("pool", "normalize", "precision", "provider", "batch_size", "on_error", "max_pixels")
        options = {name: getattr(self, name) for name in shared}
        if isinstance(backbone, FeatureStore):
            del options["pool"], options["normalize"]
            return kind.from_store(backbone, layer=AUTO, **options)
        return kind(backbone, layer=AUTO, **options)

    def _measure_baselines(self, winner: BackboneProbe, chosen: Candidate) -> list[Baseline]:
        """Train heads on the raw inputs and on features of random weights, of the items of the comparison.

        For the rows of a store, whose items are not at hand, there are none.
        """
        items = winner.features.items
        if items is None:
            return []
        started = time.perf_counter()
        spec = winner.extractor.graph.input_spec
        matrices = {RAW: describe_inputs(items, spec, self.max_pixels)}
        random_features = self._compute_random(winner)
        scores = winner.compare(matrices)
        if random_features is not None:
            search = search_cut(random_features, winner.task)
            scores[RANDOM] = search.scores[search.choice.best]
        own = winner.search.scores[chosen.name]
        self.seconds_["baselines"] = time.perf_counter() - started
        return [measure_gain(name, found, own) for name, found in scores.items()]

    def _compute_random(self, winner: BackboneProbe) -> Features | None:
        """Return the features that the same layers of an untrained backbone yield; None if none can be made."""
        backbone = winner.estimator.backbone
        spec = BackboneSpec(backbone) if isinstance(backbone, str) else getattr(backbone, "spec", backbone)
        if not isinstance(spec, BackboneSpec):
            return None
        untrained = replace(spec, weights=RANDOM_WEIGHTS, weights_key="")
        extractor = winner.extractor
        computed = Extractor(**extractor.get_params() | {"backbone": untrained}).compute(winner.features.items)
        matrices = split_columns(computed.matrix, extractor.columns)
        return replace(winner.features, matrices=matrices)

    def _score_precisions(self, winner: BackboneProbe, chosen: Candidate, X: Any) -> PrecisionScores | None:
        """Train heads on the recommended features in each precision; not for a store or a graph, which have theirs."""
        features = winner.features
        if features.items is None or isinstance(winner.extractor.backbone, ExportedGraph):
            return None
        started = time.perf_counter()
        extractor = self._make_recommended(winner, chosen).fit(X)
        sample = LabelledSample(features.items, features.targets, features.groups, winner.task)
        scores = score_precisions(extractor, sample)
        self.seconds_["precisions"] = time.perf_counter() - started
        return scores

    def _make_recommended(self, winner: BackboneProbe, chosen: Candidate) -> Extractor:
        """Return an unfitted extractor of the recommended features, in the precision that was asked for."""
        recommended = {"precision": self.precision, "layer": chosen.layers, "pool": chosen.pool}
        return Extractor(**winner.extractor.get_params() | recommended)

    def _fill_store(self, winner: BackboneProbe, chosen: Candidate, X: Any, y: Any) -> FeatureStore | None:
        """Compute the recommended features of all items into the store, with their labels, if one is named."""
        if isinstance(X, FeatureStore):
            return X
        if self.store is None:
            return None
        started = time.perf_counter()
        extractor = self._make_recommended(winner, chosen).fit(X)
        store = FeatureStore.open_or_create(self.store, extractor)
        items = winner.estimator.open_items(X, None if y is None else read_labels(y), extractor)
        extract_features(items, store, config=extractor.run_config)
        self.seconds_["store"] = time.perf_counter() - started
        return store

    # Results.

    def to_frame(self) -> Any:
        """Return the table as a pandas.DataFrame, a row for each :class:`ProbedFeatures`."""
        import pandas as pd  # type: ignore[import-untyped]

        return pd.DataFrame([row.to_dict() for row in self.table_])

    def plot(self, ax: Any = None) -> Any:
        """Draw the score of each layer over its depth.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        MissingPackageError
            If matplotlib is not installed (``pip install 'topwork[plots]'``).
        """
        return draw_depth_curve(self.table_, self.best_, self.baselines_, self.metric, ax)

    def _html_repr(self) -> str:
        """Return scikit-learn's representation as HTML, and what was found."""
        own = str(super()._html_repr())
        if not hasattr(self, "best_"):
            return own
        found = render_probe(self.table_, self.best_, self.baselines_, self.metric, self.n_items_)
        return f"{own}{found}"

    @property
    def metric(self) -> str:
        """Name of the score: "accuracy" or "R2"."""
        return R2 if self.task == REGRESSION else ACCURACY

    def to_dict(self) -> dict[str, Any]:
        """Return everything that was found, as JSON can hold it."""
        return {
            "best": asdict(self.best_),
            "table": [row.to_dict() for row in self.table_],
            "baselines": [asdict(baseline) for baseline in self.baselines_],
            "precisions": None if self.precisions_ is None else asdict(self.precisions_),
            "metric": self.metric,
            "n": self.n_items_,
            "seconds": self.seconds_,
        }


@dataclass(frozen=True)
class BackboneProbe:
    """What was found about one backbone: its name, the estimator that computed, features, and the search."""

    name: str
    estimator: TransferEstimator
    features: Features
    search: CutSearch
    task: str

    @property
    def candidates(self) -> list[Candidate]:
        """All features that were compared."""
        return list(self.search.candidates.values())

    @property
    def extractor(self) -> Extractor:
        """The extractor of all single layers and poolings."""
        extractor = self.features.extractor
        assert extractor is not None
        return extractor

    @property
    def seconds(self) -> float | None:
        """Time that 1,000 items take in the whole backbone; None for the rows of a store."""
        if self.features.items is None:
            return None
        return 1000 * self.features.seconds / len(self.features.items)

    def cost(self, candidate: Candidate, n_backbones: int) -> tuple[float, int]:
        """Return what features cost; of several backbones the time is compared."""
        if n_backbones == 1 or self.seconds is None:
            return candidate.cost
        return self.seconds * candidate.cost[0], candidate.width

    def compare(self, matrices: dict[str, Any]) -> dict[str, HeldOutScores]:
        """Return the scores of other features of the same items."""
        return compare_features(matrices, self.features.targets, self.task, self.features.groups)

    def describe(self, candidate: Candidate, key: str, choice: Choice) -> ProbedFeatures:
        """Return a row of the table."""
        scores = self.search.scores[candidate.name]
        low, high = scores.interval()
        depth = None if np.isnan(candidate.depth) else candidate.depth
        is_single = len(candidate.layers) == 1
        return ProbedFeatures(
            backbone=self.name,
            layer=",".join(candidate.layers),
            pool=candidate.pool,
            score=scores.score,
            low=low,
            high=high,
            n_items=scores.n_rows,
            difference=choice.differences.get(key),
            error=choice.errors.get(key),
            width=candidate.width,
            bytes=candidate.width * BYTES_PER_FEATURE,
            depth=depth,
            seconds=None if depth is None or self.seconds is None else self.seconds * depth,
            transferability=self.measure(candidate) if is_single else None,
        )

    def measure(self, candidate: Candidate) -> Transferability:
        """Return the scores of transferability of one layer's features."""
        matrix = self.features.join(candidate)
        return measure_transferability(matrix, self.features.targets, task=self.task, groups=self.features.groups)


def name_features(probed: BackboneProbe, candidate: Candidate) -> str:
    """Return the name of features among those of several backbones."""
    return f"{probed.name} {candidate.name}"


def name_backbones(backbones: Sequence[BackboneLike]) -> dict[str, BackboneLike]:
    """Return backbones by their names, which are numbered where they are equal."""
    named: dict[str, BackboneLike] = {}
    for backbone in backbones:
        name = name_backbone(backbone)
        number = sum(other.partition(" (")[0] == name for other in named) + 1
        named[name if number == 1 else f"{name} ({number})"] = backbone
    return named


def name_backbone(backbone: BackboneLike) -> str:
    """Return the name of a backbone; for a store that of the network that filled it."""
    if isinstance(backbone, FeatureStore):
        return "foreign features" if backbone.is_foreign else str(backbone.identity["architecture"])
    return backbone if isinstance(backbone, str) else str(getattr(backbone, "name", type(backbone).__name__))


def measure_gain(name: str, baseline: HeldOutScores, own: HeldOutScores) -> Baseline:
    """Return a baseline, and how much more is learned from the recommended features, on the same items."""
    low, high = baseline.interval()
    gain, error = compare_scores(own, baseline)
    return Baseline(name=name, score=baseline.score, low=low, high=high, gain=gain, error=error)
