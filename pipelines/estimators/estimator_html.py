"""What a fitted estimator was trained on, and how well it predicts, as tables for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...html_table import render_box, render_facts
from .foreign_extractor import ForeignExtractor

if TYPE_CHECKING:
    from ...heads.fit_report import FitReport

MAX_NAMED_CLASSES = 8


def render_fit(estimator: Any) -> str:
    """Return what a fitted estimator was trained on, its scores and its graph's certificate as HTML."""
    extractor = estimator.extractor_
    columns = ", ".join(f"{column.name} ({column.width:,} features)" for column in extractor.columns)
    is_foreign = isinstance(extractor, ForeignExtractor)
    facts: dict[str, Any] = {
        "backbone": "unknown (foreign features)" if is_foreign else extractor.identity["architecture"],
        "features": columns,
        "head": type(estimator.head_).__name__,
        "trained on": f"{estimator.n_rows_:,} rows",
        "classes": describe_classes(estimator),
        **describe_scores(estimator.fit_report_),
        "not evaluated": estimator.not_evaluated_,
    }
    search = getattr(estimator, "search_", None)  # a refitted head has none
    if search is not None:
        facts["layer"] = search.explain(estimator.metric)
    if estimator.familiarity_ is not None:
        facts["familiar items"] = "are told from others"
    box = render_box("Training and scores", render_facts(facts))
    if is_foreign:
        return box
    certificate: str = extractor.graph.certificate._repr_html_()
    return f"{box}<br>{certificate}"


def describe_classes(estimator: Any) -> str | None:
    """Return the number and the first names of the classes; None for a regressor."""
    if not hasattr(estimator, "classes_"):
        return None
    names = list(map(str, estimator.classes_.tolist()))
    more = ", …" if len(names) > MAX_NAMED_CLASSES else ""
    return f"{len(names):,}: {', '.join(names[:MAX_NAMED_CLASSES])}{more}"


def describe_scores(report: FitReport | None) -> dict[str, str]:
    """Return the scores of held-out rows and of training rows, by their names."""
    if report is None:
        return {}
    held_out = f"{report.held_out:.3f}"
    if report.spread is not None:
        held_out = f"{held_out} ± {report.spread:.3f} in {report.n_folds} folds"
    return {
        f"{report.metric} on held-out rows": held_out,
        f"{report.metric} in training": f"{report.training:.3f}",
    }
