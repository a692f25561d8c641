"""What a probe found, as tables for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...html_table import render_box, render_facts, render_rows

if TYPE_CHECKING:
    from .probe_result import Baseline, ProbedFeatures, Recommendation

MAX_ROWS = 12
"""Features that are listed, those with the highest scores."""


def render_probe(
    rows: Sequence[ProbedFeatures], best: Recommendation, baselines: Sequence[Baseline], metric: str, n_items: int
) -> str:
    """Return the recommendation, the baselines and the best features of a probe as HTML."""
    facts = {
        "recommended": f"{best.backbone}, layer {best.layer}, pooling {best.pool} ({best.width:,} features)",
        metric: describe_score(best) + " on items that took no part in the choice",
        "compared": f"{len(rows):,} features on {n_items:,} items",
    }
    for baseline in baselines:
        facts[baseline.name] = f"{describe_score(baseline)}; the recommended features gain {baseline.gain:.3f}"
    ordered = sorted(rows, key=lambda row: -row.score)[:MAX_ROWS]
    return render_box("LayerProbe", render_facts(facts), render_rows([describe_row(row, metric) for row in ordered]))


def describe_row(row: ProbedFeatures, metric: str) -> dict[str, Any]:
    """Return the fields of a row that are shown."""
    return {
        "backbone": row.backbone,
        "layer": row.layer,
        "pooling": row.pool,
        metric: describe_score(row),
        "features": f"{row.width:,}",
        "share of the computation": None if row.depth is None else f"{row.depth:.0%}",
    }


def describe_score(found: ProbedFeatures | Recommendation | Baseline) -> str:
    """Return a score and its confidence interval."""
    return f"{found.score:.3f} ({found.low:.3f} to {found.high:.3f})"
