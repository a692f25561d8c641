"""Curves that are computed from a store: the score by the number of labels, and by the layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import TopworkError, reason
from ...progress import report_step
from ..selection.learning_curve import few_shot_curve
from ..selection.probe import LayerProbe

if TYPE_CHECKING:
    from ...extract.store.feature_store import FeatureStore

CURVE_HEAD = "lda"
"""Of the learning curve: a closed form, about as good as the default head."""
SHOTS = (2, 4, 8, 16, 32, 64, "all")
MAX_ITEMS = 3000
"""Of more items a sample is compared by layer."""


@dataclass(frozen=True)
class ScoreCurve:
    """Scores of several things in order, with their intervals.

    Parameters
    ----------
    name : {"learning", "layers"}
        The section that shows it.
    text : str
        What follows from it, in sentences.
    labels : list of str
    scores, lows, highs : list of float
    axis_names : tuple of str
    """

    name: str
    text: str
    labels: list[str]
    scores: list[float]
    lows: list[float]
    highs: list[float]
    axis_names: tuple[str, str]


def compute_curves(store: FeatureStore, layer: str, task: str, missing: list[str]) -> list[ScoreCurve]:
    """Return the learning curve of a layer, and the curve of all layers of a store; what cannot be told is added.

    A learning curve is of one label for each item; a curve of layers needs several columns.
    """
    curves = []
    if task == "classification":
        report_step("computing the learning curve")
        curves += try_curve(lambda: compute_learning_curve(store, layer), "learning curve", missing)
    if len(store.columns) > 1:
        report_step("comparing the layers")
        curves += try_curve(lambda: compute_layer_curve(store, task), "curve of the layers", missing)
    else:
        missing.append("Give a store of several layers to see how the score depends on the layer.")
    return curves


def try_curve(compute: Callable[[], ScoreCurve], name: str, missing: list[str]) -> list[ScoreCurve]:
    """Return a curve, or add to what is missing why there is none."""
    try:
        return [compute()]
    except TopworkError as error:
        missing.append(f"There is no {name}: {reason(error).rstrip('.')}.")
        return []


def compute_learning_curve(store: FeatureStore, layer: str) -> ScoreCurve:
    """Return the accuracy by the number of labels of each class."""
    found = few_shot_curve(store, head=CURVE_HEAD, shots=SHOTS, layer=layer)
    points = {point.n_rows: point for point in found}  # numbers that no class has are equal to "all"
    scores = [point.scores for point in points.values()]
    return ScoreCurve(
        name="learning",
        text=f"{found.explain()} A discriminant analysis is trained on some labels of each class, and held-out items "
        "are predicted; the lines are the range of five draws.",
        labels=[f"{n_rows:,.0f}" for n_rows in points],
        scores=[float(each.mean()) for each in scores],
        lows=[float(each.min()) for each in scores],
        highs=[float(each.max()) for each in scores],
        axis_names=("labels that are trained on", "accuracy"),
    )


def compute_layer_curve(store: FeatureStore, task: str) -> ScoreCurve:
    """Return the cross-validated score of a linear head on each column of a store."""
    kind: Any = "regression" if task == "regression" else "classification"
    probe = LayerProbe(task=kind, max_items=MAX_ITEMS, baselines=False).fit(store)
    rows = [row for row in probe.table_ if "," not in row.layer]
    best = probe.best_
    return ScoreCurve(
        name="layers",
        text=f"Recommended: {best.layer} ({best.pool}). A linear head is cross-validated on the items that may be "
        "trained on; the lines are intervals of 95 %.",
        labels=[row.layer for row in rows],
        scores=[row.score for row in rows],
        lows=[row.low for row in rows],
        highs=[row.high for row in rows],
        axis_names=("layer", "R2" if kind == "regression" else "accuracy"),
    )
