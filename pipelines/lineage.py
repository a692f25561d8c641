"""Where a head comes from: the features, the rows and the labels that it was trained on, and its parent."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..extract.identity import digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..extract.extractor import Extractor
    from .training_rows import TrainingRows


def lineage_of(extractor: Extractor, rows: TrainingRows, **more: Any) -> dict[str, Any]:
    """Return what a bundle records of a head's training.

    Parameters
    ----------
    extractor : Extractor
    rows : TrainingRows
        With labels as they were given.
    **more
        Of a head that was trained again: see :func:`topwork.pipelines.refit.refit`.

    Returns
    -------
    dict
        ``parent``, the SHA-256 of its bundle's manifest (None for none); digests of the ``input`` identity and of the
        ``columns``; number of ``rows``; digests of their ``ids`` and of their ids with ``labels``, in any order.
    """
    ids = np.arange(len(rows)) if rows.ids is None else rows.ids
    return {
        "parent": None,
        "input": digest(extractor.identity),
        "columns": digest([column.to_json() for column in extractor.columns]),
        "rows": len(rows),
        "ids": _digest_of_lines(ids, [""] * len(rows)),
        "labels": _digest_of_lines(ids, rows.y.tolist()),
        **more,
    }


def _digest_of_lines(ids: NDArray[Any], values: list[Any]) -> str:
    lines = sorted(f"{item_id!r} {value!r}" for item_id, value in zip(ids.tolist(), values, strict=True))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
