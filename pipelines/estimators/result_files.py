"""Results as ``.csv`` and ``.jsonl`` files: predictions with one row for each input, and rows of any kind."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.base import RegressorMixin

from ...atomic import require_destination, write_file
from ...errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...extract.sources.item import Source
    from ...extract.sources.table import Table
    from .transfer_estimator import TransferEstimator

RESULT_SUFFIXES = (".csv", ".jsonl")
PROBABILITY_DECIMALS = 6


def write_predictions(estimator: TransferEstimator, source: str | Table | Source, path: Path) -> dict[str, int]:
    """Predict the items of a source, write a table, and return the number of ``items``, and of them by status.

    The ``.csv`` or ``.jsonl`` file has ``id``, ``label`` (or ``value``), ``status`` (ok, failed, or abstained),
    ``reason`` and, if the head has them, a probability for each class. The estimator's ``on_error`` decides what
    happens to items that cannot be decoded.
    """
    check_suffix(path)
    rows = list_predictions(estimator, source)
    write_rows(path, rows)
    counts = {"items": len(rows)}
    for status in ("ok", "failed", "abstained"):
        counts[status] = sum(row["status"] == status for row in rows)
    return counts


def list_predictions(estimator: TransferEstimator, source: str | Table | Source) -> list[dict[str, Any]]:
    """Return one row for each item of a source, in its order, as :func:`write_predictions` writes them."""
    extractor = estimator.extractor_
    items = extractor.open(source)
    features = extractor.transform(items)
    answers = estimator.predict_features(features).tolist()
    probabilities = list_probabilities(estimator, features)
    answer_column = "value" if isinstance(estimator, RegressorMixin) else "label"

    reasons = dict(extractor.failures_)
    rows: list[dict[str, Any]] = []
    for item in items:
        rows.append({"id": item.id, answer_column: None, "status": "failed", "reason": reasons.get(item.id)})
    for position, answer, of_classes in zip(extractor.kept_.tolist(), answers, probabilities, strict=True):
        status = "abstained" if answer is None else "ok"
        rows[position] |= {answer_column: answer, "status": status, "reason": None, **of_classes}
    return rows


def list_probabilities(estimator: Any, features: NDArray[np.float32]) -> list[dict[str, float]]:
    """Return the probability of each class, for each row; empty dictionaries if the head has none."""
    if isinstance(estimator, RegressorMixin) or not hasattr(estimator.head_, "predict_proba"):
        return [{} for _ in range(len(features))]
    names = [f"p_{name}" for name in estimator.classes_.tolist()]
    rows = []
    for probabilities in estimator.predict_proba_features(features).tolist():
        rounded = [round(probability, PROBABILITY_DECIMALS) for probability in probabilities]
        rows.append(dict(zip(names, rounded, strict=True)))
    return rows


def check_suffix(path: Path) -> None:
    """Raise an InputError if the suffix of a file is neither ``.csv`` nor ``.jsonl``."""
    if path.suffix not in RESULT_SUFFIXES:
        raise InputError(f"{path}: expected a file that ends in {' or '.join(RESULT_SUFFIXES)}")


def require_file_place(path: Path) -> None:
    """Raise an error that names the path if no file can be written there, before any work is done."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a file")
    require_destination(path)


def write_rows(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write a ``.csv`` or ``.jsonl`` file atomically; a ``.csv`` file has `columns` even if no row has them."""
    check_suffix(path)
    if path.suffix == ".csv":
        text = format_csv(rows, columns)
    else:
        text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.encode())


def format_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as CSV; the header names `columns`, then the other keys of the rows as they first occur."""
    names = dict.fromkeys(columns)  # an ordered set
    for row in rows:
        names |= dict.fromkeys(row)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
