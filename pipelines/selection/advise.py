"""Which of the four cases of transfer learning a task is, from what was measured on it, and what follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...heads.few_shot import few_shot_curve
from ...heads.learning_curve import LearningCurve
from ...heads.registry import CLASSIFICATION, REGRESSION
from .advice import Advice, Similarity, Size
from .probe import RANDOM, LayerProbe
from .probe_result import ProbedFeatures

MAX_DROP = 0.02
"""A task is like the one of the pretraining if the last layer is at most so much worse than the best single one."""
STANDARD_ERRORS = 2.0
"""Differences beyond so many standard errors are taken as certain."""
LARGE_GAIN = 0.01
"""A data set is large if twice the labels would add less than this to the score of a head, and …"""
LARGE_CLASS = 50
"""… it has so many items a class on average: near a perfect score nothing adds much."""
LARGE_ROWS = 2000
"""Where no learning curve can be drawn, as for values and several labels, so many items are a large data set."""
SMALL_CLASS = 5
"""Items of a class below which its score says little."""
LARGE_GAP = 0.1
"""Difference of the scores in training and on held-out items from which a head is said to over-fit."""
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
    is at most two points worse than the best one. Size is measured by the learning curve of the recommended features: a
    data set is large if doubling it would add less than one point, and it has 50 items a class or more.
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
        metric=probe.metric,
        seconds=probe.seconds_of_backbone_,
        curve=curve,
        warnings=find_warnings(probe, curve),
    )


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
    """Return how the last layer compares with the best single layer, by its own pooling."""
    single = list_single_layers(probe.table_)
    best = max(single, key=lambda row: (row.n_items, row.score))
    last = single[-1]
    drop = best.score - last.score
    margin = max(last.high - last.low, best.high - best.low) / 4  # about one standard error
    baseline = next((one for one in probe.baselines_ if one.name == RANDOM), None)
    return Similarity(
        is_similar=drop <= MAX_DROP,
        is_certain=abs(drop - MAX_DROP) > STANDARD_ERRORS * margin and len(single) > 1,
        best_layer=best.layer,
        best_depth=best.depth,
        last_layer=last.layer,
        drop=drop,
        gain_over_random=None if baseline is None else baseline.gain,
        gain_error=None if baseline is None else baseline.error,
    )


def list_single_layers(table: Sequence[ProbedFeatures]) -> list[ProbedFeatures]:
    """Return the rows of single layers with the pooling that comes first, the backbone's own."""
    rows: dict[str, ProbedFeatures] = {}
    for row in table:
        if "," not in row.layer:
            rows.setdefault(row.layer, row)
    return list(rows.values())


def measure_size(probe: LayerProbe, curve: LearningCurve | None) -> Size:
    """Return whether twice the labels would help."""
    n_items = probe.n_labelled_
    n_classes = len(np.unique(probe.targets_)) if curve is not None else None
    slope = None if curve is None else curve.slope
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
    """Return what makes the advice, or a head, less reliable."""
    found = []
    baseline = next((one for one in probe.baselines_ if one.name == RANDOM), None)
    if baseline is not None and baseline.gain < STANDARD_ERRORS * baseline.error:
        found.append(
            f"the backbone brings little: its features gain {100 * baseline.gain:.1f} points over those of random "
            "weights. Its training data may be of another domain; compare another backbone."
        )
    if curve is not None:
        counts = Counter(probe.targets_.tolist())
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
    return tuple(found)
