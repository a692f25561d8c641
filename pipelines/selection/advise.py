"""Which of the four cases of transfer learning a task is, from what was measured on it, and what follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...heads.feature_comparison import HeldOutScores, compare_scores, estimate_variance
from ...heads.few_shot import few_shot_curve
from ...heads.learning_curve import LearningCurve
from ...heads.registry import CLASSIFICATION, REGRESSION
from ..estimators.cut_search import CutSearch
from .advice import EPOCHS, PASSES_PER_STEP, Advice, Similarity, Size
from .probe import RANDOM, RAW, LayerProbe
from .probe_result import Baseline, ProbedFeatures

# Chosen on Banking77 and hymenoptera alone, which allow any MAX_DROP, see `benchmarks/advise.py`.
MAX_DROP = 0.02
"""A task is like the one of the pretraining if the last layer is at most so much worse than the best other one, …"""
ERRORS_OF_DROP = 2.0
"""… or by so many standard errors of the paired difference: the best of several is so partly by chance."""
LARGE_GAIN = 0.01
"""A data set is large if twice the labels would add less than this to the score of a head, and …"""
LARGE_CLASS = 50
"""… it has so many items a class on average: from fewer, the gain cannot be predicted within a point."""
STANDARD_ERRORS = 2.0
"""Differences beyond so many standard errors are taken as certain."""
LARGE_ROWS = 2000
"""Where no learning curve can be drawn, as for values and several labels, so many items are a large data set."""
SMALL_CLASS = 5
"""Items of a class below which its score says little."""
LARGE_GAP = 0.1
"""Difference of the scores in training and on held-out items from which a head is said to over-fit."""
LONG_HOURS = 1.0
"""Time for the features of all items from which the cost is warned of."""
BASELINE_NAMES = {RAW: "the raw inputs", RANDOM: "those of random weights"}
SHOTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CURVE_HEAD = "logreg"
CURVE_DRAWS = 5


def advise(
    X: Any,
    y: Any = None,
    backbone: Any = "topwork:tiny",
    *,
    task: str = CLASSIFICATION,
    groups: Any = None,
    split: str | Sequence[str] | None = None,
    **options: Any,
) -> Advice:
    """Say whether a data set is small or large and like or unlike the pretraining data, and what follows from it.

    Parameters
    ----------
    X : sequence, path, FeatureStore or LayerProbe
        As for :meth:`topwork.LayerProbe.fit`. A store should have several layers, the last of the backbone among them.
        Of a probe that was fitted, the conclusions are drawn; the other parameters do not matter.
    y : array-like of shape (n_items,) or (n_items, n_targets), optional
        As for :meth:`topwork.LayerProbe.fit`.
    backbone : str, BackboneSpec or Backbone
        What :class:`topwork.LayerProbe` takes; not used for a store.
    task : {"classification", "regression"}
        Whether labels or values are predicted.
    groups : sequence, optional
        Group of each item; items of a group are held out together.
    split : str or sequence of str, optional
        Splits to use; by default all that are not held out.
    **options
        Other parameters of :class:`topwork.LayerProbe`.

    Returns
    -------
    Advice
        The case, the measurements that it follows from, recommendations and warnings; ``str(advice)`` is a text.

    Raises
    ------
    InputError
        If nothing can be compared, or several backbones are given.

    Notes
    -----
    The four cases are those of the transfer learning chapter of CS231n (https://cs231n.github.io/transfer-learning/).
    Similarity is measured by where the best single layer lies: a task is like that of the pretraining if the last layer
    is at most two points worse than the best one, or at most two standard errors of their paired difference. Size is
    measured by the learning curve of the recommended features: a data set is large if doubling it would add less than
    one point, as a power law of the error predicts, and it has 50 items a class or more.
    """
    if isinstance(X, LayerProbe):
        return draw_conclusions(X)
    if isinstance(backbone, list | tuple):
        raise InputError("advise takes one backbone; LayerProbe compares several")
    probe = LayerProbe(backbone, task=task, **options).fit(X, y, groups=groups, split=split)
    return draw_conclusions(probe)


def draw_conclusions(probe: LayerProbe) -> Advice:
    """Return the advice that follows from a fitted probe."""
    curve = None
    is_class = probe.targets_.ndim == 1 and probe.task != REGRESSION
    if is_class:
        curve = draw_learning_curve(probe.features_, probe.targets_, probe.groups_)
    similarity = measure_similarity(probe)
    size = measure_size(probe, curve)
    return Advice(
        similarity=similarity,
        size=size,
        best=probe.best_,
        depth=find_depth(probe),
        metric=probe.metric,
        seconds=probe.seconds_of_backbone_,
        curve=curve,
        warnings=find_warnings(probe, curve),
    )


def find_depth(probe: LayerProbe) -> float | None:
    """Return the share of the backbone's computation that the recommended features need."""
    best = probe.best_
    return next((row.depth for row in probe.table_ if (row.layer, row.pool) == (best.layer, best.pool)), None)


def draw_learning_curve(features: NDArray[Any], targets: NDArray[Any], groups: NDArray[Any] | None) -> LearningCurve:
    """Return the learning curve of a logistic regression, up to all rows; classes of a single row are left out."""
    counts = np.bincount(targets)
    is_learnable = (counts > 1)[targets]
    features, targets = features[is_learnable], targets[is_learnable]
    groups = None if groups is None else groups[is_learnable]
    largest = int(counts.max())
    shots: list[int | str] = [*(count for count in SHOTS if 2 * count < largest), "all"]
    return few_shot_curve(features, targets, CURVE_HEAD, shots, draws=CURVE_DRAWS, groups=groups)


def measure_similarity(probe: LayerProbe) -> Similarity:
    """Return how the last layer compares with the best of the others, each with the backbone's own pooling."""
    *others, last = list_single_layers(probe.table_)
    random, raw = (find_baseline(probe, name) for name in (RANDOM, RAW))
    best = max(others, key=lambda row: (row.n_items, row.score), default=last)
    drop, error = compare_rows(probe.search_, best, last)
    is_similar = drop <= max(MAX_DROP, ERRORS_OF_DROP * error)
    if drop <= 0:
        best = last
    return Similarity(
        is_similar=is_similar,
        is_certain=abs(drop - MAX_DROP) > STANDARD_ERRORS * error and len(others) > 0,
        best_layer=best.layer,
        best_depth=best.depth,
        last_layer=last.layer,
        drop=max(drop, 0.0),
        drop_error=error,
        gain_over_random=None if random is None else random.gain,
        gain_error=None if random is None else random.error,
        gain_over_raw=None if raw is None else raw.gain,
    )


def list_single_layers(table: Sequence[ProbedFeatures]) -> list[ProbedFeatures]:
    """Return the rows of single layers with the pooling that comes first, the backbone's own."""
    rows: dict[str, ProbedFeatures] = {}
    for row in table:
        if "," not in row.layer:
            rows.setdefault(row.layer, row)
    return list(rows.values())


def find_baseline(probe: LayerProbe, name: str) -> Baseline | None:
    """Return a baseline, None if it was not measured."""
    return next((baseline for baseline in probe.baselines_ if baseline.name == name), None)


def compare_rows(search: CutSearch, best: ProbedFeatures, other: ProbedFeatures) -> tuple[float, float]:
    """Return the difference of two scores and its standard error, by pairs if the same items were judged."""
    own, theirs = (find_scores(search, row) for row in (best, other))
    if own.n_rows == theirs.n_rows:
        return compare_scores(own, theirs)
    variances = [estimate_variance(scores.best_sums, scores.sizes) for scores in (own, theirs)]
    return own.score - theirs.score, sum(variances) ** 0.5


def find_scores(search: CutSearch, row: ProbedFeatures) -> HeldOutScores:
    """Return the scores on held-out items that a row of the table tells."""
    name = next(
        name
        for name, candidate in search.candidates.items()
        if candidate.layers == (row.layer,) and candidate.pool == row.pool
    )
    return search.scores[name]


def measure_size(probe: LayerProbe, curve: LearningCurve | None) -> Size:
    """Return whether twice the labels would help; of a sample, what they would add to all items."""
    n_items = probe.n_labelled_
    n_classes = len(np.unique(probe.targets_)) if curve is not None else None
    slope = None if curve is None else curve.predict_gain(n_items)
    if slope is None:
        return Size(n_items >= LARGE_ROWS, is_certain=False, n_items=n_items, n_classes=n_classes, slope=None)
    is_beyond_sample = n_items > probe.n_items_
    has_large_classes = n_classes is not None and n_items >= LARGE_CLASS * n_classes
    is_slope_certain = slope.high < LARGE_GAIN or slope.low > LARGE_GAIN
    return Size(
        is_large=has_large_classes and slope.gain < LARGE_GAIN,
        is_certain=not has_large_classes or (is_slope_certain and not is_beyond_sample),
        n_items=n_items,
        n_classes=n_classes,
        slope=slope,
    )


def find_warnings(probe: LayerProbe, curve: LearningCurve | None) -> tuple[str, ...]:
    """Return what makes the advice, or a head, less reliable, or expensive."""
    found = warn_of_baselines(probe.baselines_)
    if curve is not None:
        found += warn_of_few_labels(probe.targets_, curve)
    seconds = probe.seconds_of_backbone_
    hours = 0.0 if seconds is None else seconds * probe.n_labelled_ / 1000 / 3600
    if hours > LONG_HOURS:
        found.append(
            f"the features of all items take about {hours:.0f} hours on this machine, and fine-tuning "
            f"{EPOCHS * PASSES_PER_STEP} times as long; a smaller backbone or an earlier layer takes less"
        )
    return tuple(found)


def warn_of_baselines(baselines: Sequence[Baseline]) -> list[str]:
    """Return warnings of a backbone that brings little over what needs no training of it."""
    found = []
    for baseline in baselines:
        if baseline.gain < STANDARD_ERRORS * baseline.error:
            gain = f"{100 * baseline.gain:.1f} points over {BASELINE_NAMES[baseline.name]}"
            found.append(
                f"the backbone brings little: its features gain {gain}. Its training data may be of another domain; "
                "compare another backbone."
            )
    return found


def warn_of_few_labels(targets: NDArray[Any], curve: LearningCurve) -> list[str]:
    """Return warnings of classes that are too small, and of a head that over-fits."""
    found = []
    counts = Counter(targets.tolist())
    small = sum(count < SMALL_CLASS for count in counts.values())
    if small:
        found.append(f"{small} of {len(counts)} classes have fewer than {SMALL_CLASS} items; label more of them")
    last = curve[-1]
    gap = float(last.training_scores.mean() - last.scores.mean())
    if gap > LARGE_GAP:
        found.append(
            f"a head over-fits: {last.training_scores.mean():.3f} in training, {last.scores.mean():.3f} on other "
            "items. Use fewer features (an earlier layer, pool avg), a stronger penalty, or more labels."
        )
    return found
