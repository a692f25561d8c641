"""The picture of a probe: how the score changes with the depth of the cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...plotting import open_axes

if TYPE_CHECKING:
    from .probe_result import Baseline, ProbedFeatures, Recommendation

FIGURE_SIZE = (7.0, 4.0)
LINE_STYLES = ("--", ":", "-.")
BAND_OPACITY = 0.15
CHOSEN_COLOUR = "#c2410c"


def draw_depth_curve(
    rows: Sequence[ProbedFeatures], best: Recommendation, baselines: Sequence[Baseline], metric: str, axes: Any = None
) -> Any:
    """Draw the score over the share of the backbone's computation, on matplotlib's axes; new ones by default.

    A line joins the layers with the backbone's own pooling, with their confidence intervals; other poolings and
    concatenations are dots, the recommendation a ring, and baselines horizontal lines. The columns of a store, whose
    depth is not known, stand side by side.
    """
    axes = open_axes(axes, FIGURE_SIZE)
    is_depth_known = all(row.depth is not None for row in rows)
    places = {id(row): row.depth if is_depth_known else number for number, row in enumerate(rows)}

    # Draw the curve of each backbone.
    for backbone in dict.fromkeys(row.backbone for row in rows):
        known: set[str] = set()
        curve = []
        for row in rows:
            is_first = row.backbone == backbone and "," not in row.layer and row.layer not in known
            if is_first:
                known.add(row.layer)
                curve.append(row)
        x = [places[id(row)] for row in curve]
        (line,) = axes.plot(x, [row.score for row in curve], marker="o", label=backbone)
        low, high = [row.low for row in curve], [row.high for row in curve]
        axes.fill_between(x, low, high, color=line.get_color(), alpha=BAND_OPACITY, linewidth=0)
        for place, row in zip(x, curve, strict=True):
            axes.annotate(row.layer, (place, row.score), xytext=(0, -14), textcoords="offset points", ha="center")
        others = [row for row in rows if row.backbone == backbone and row not in curve]
        axes.scatter([places[id(row)] for row in others], [row.score for row in others], s=12, color=line.get_color())

    # Mark the recommendation and the baselines.
    chosen = next(row for row in rows if (row.backbone, row.layer, row.pool) == (best.backbone, best.layer, best.pool))
    axes.scatter(
        [places[id(chosen)]],
        [chosen.score],
        s=160,
        facecolors="none",
        edgecolors=CHOSEN_COLOUR,
        linewidths=2,
        label=f"recommended: {best.layer} ({best.pool})",
    )
    for baseline, style in zip(baselines, LINE_STYLES, strict=False):
        axes.axhline(baseline.score, linestyle=style, color="grey", label=baseline.name)
    axes.set_xlabel("share of the backbone's computation" if is_depth_known else "column of the store")
    axes.set_ylabel(metric)
    axes.legend(loc="lower right")
    return axes
