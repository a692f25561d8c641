"""Predictions as a file: one line for each input, failed ones with their reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.base import RegressorMixin

from .row_file import require_row_file, write_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...extract.sources.table import Table
    from .transfer_estimator import TransferEstimator


def write_predictions(classifier: TransferEstimator, source: str | Table, path: Path) -> dict[str, int]:
    """Predict a source's items and write a table.

    Parameters
    ----------
    classifier : TransferClassifier or TransferRegressor
        Its ``on_error`` decides about items that cannot be decoded.
    source : str or Table
        A folder, archive, table or array.
    path : Path
        A ``.csv`` or ``.jsonl`` file with ``id``, ``label`` (or ``value``), ``status`` (ok, failed, or abstained),
        ``reason`` and, if the head has them, a probability for each class.

    Returns
    -------
    dict
        Number of ``items``, ``ok``, ``failed`` and ``abstained``.
    """
    require_row_file(path)
    rows = prediction_rows(classifier, source)
    write_rows(path, rows)
    counts = {status: sum(row["status"] == status for row in rows) for status in ("ok", "failed", "abstained")}
    return {"items": len(rows), **counts}


def prediction_rows(classifier: TransferEstimator, source: str | Table) -> list[dict[str, Any]]:
    """Return one dictionary for each input, in the source's order."""
    items = classifier.extractor_.open(source)
    features = classifier.extractor_.transform(items)
    kept, reasons = set(classifier.extractor_.kept_.tolist()), dict(classifier.extractor_.failures_)
    predicted = iter(classifier.predictions(features).tolist())
    name, chances = (
        ("value", iter([])) if isinstance(classifier, RegressorMixin) else ("label", _chances(classifier, features))
    )
    rows = []
    for position, item in enumerate(items):
        row: dict[str, Any] = {"id": item.id, name: None, "status": "failed", "reason": reasons.get(item.id)}
        if position in kept:
            found = next(predicted)
            row |= {name: found, "status": "abstained" if found is None else "ok", "reason": None}
            row |= next(chances, {})
        rows.append(row)
    return rows


def _chances(classifier: Any, features: NDArray[np.float32]) -> Iterator[dict[str, float]]:
    """Yield the probability of each class, for each item, if the head has them."""
    if hasattr(classifier.head_, "predict_proba"):
        names = [f"p_{name}" for name in classifier.classes_.tolist()]
        for chances in classifier.probabilities(features).tolist():
            yield {name: round(chance, 6) for name, chance in zip(names, chances, strict=True)}
