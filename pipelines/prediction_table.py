"""Predictions as a file: one line for each input, failed ones with their reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .row_file import require_row_file, write_rows

if TYPE_CHECKING:
    from ..extract.sources.table import Table
    from .transfer import TransferClassifier


def write_predictions(classifier: TransferClassifier, source: str | Table, path: Path) -> dict[str, int]:
    """Predict a source's items and write a table.

    Parameters
    ----------
    classifier : TransferClassifier
        Its ``on_error`` decides about items that cannot be decoded.
    source : str or Table
        A folder, archive, table or array.
    path : Path
        A ``.csv`` or ``.jsonl`` file with ``id``, ``label``, ``status``, ``reason`` and, if the head has them, a
        probability for each class.

    Returns
    -------
    dict
        Number of ``items``, ``ok`` and ``failed``.
    """
    require_row_file(path)
    rows = prediction_rows(classifier, source)
    write_rows(path, rows)
    failed = sum(row["status"] == "failed" for row in rows)
    return {"items": len(rows), "ok": len(rows) - failed, "failed": failed}


def prediction_rows(classifier: TransferClassifier, source: str | Table) -> list[dict[str, Any]]:
    """Return one dictionary for each input, in the source's order."""
    items = classifier.extractor_.open(source)
    features = classifier.extractor_.transform(items)
    kept, reasons = set(classifier.extractor_.kept_.tolist()), dict(classifier.extractor_.failures_)
    labels = iter(classifier.head_.predict(features).tolist() if len(features) else [])
    has_probabilities = hasattr(classifier.head_, "predict_proba") and len(features)
    probabilities = iter(classifier.head_.predict_proba(features).tolist() if has_probabilities else [])
    rows = []
    for position, item in enumerate(items):
        row: dict[str, Any] = {"id": item.id, "label": None, "status": "failed", "reason": reasons.get(item.id)}
        if position in kept:
            row |= {"label": next(labels), "status": "ok", "reason": None}
            row |= {
                f"p_{name}": round(p, 6)
                for name, p in zip(classifier.classes_.tolist(), next(probabilities, []), strict=False)
            }
        rows.append(row)
    return rows
