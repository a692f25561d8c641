"""Where a head comes from: the features, the rows and the labels that it was trained on, and its parent."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ...identity import digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.extractor.extractor import Extractor
    from ..estimators.training_rows import TrainingRows


def lineage_of(extractor: Extractor, rows: TrainingRows) -> dict[str, Any]:
    """Return what a bundle records of a head's training; of one that was trained again ``refit`` knows more.

    Parameters
    ----------
    extractor : Extractor
    rows : TrainingRows
        With labels as they were given.

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
    }


def hashes_of(ids: NDArray[Any]) -> NDArray[np.uint64]:
    """Return 64 bits of the SHA-256 of each id, ascending; by them a child knows what its parent has learned from.

    Parameters
    ----------
    ids : ndarray of shape (n_rows,)
    """
    digests = (hashlib.sha256(str(item_id).encode("utf-8", "surrogatepass")).digest()[:8] for item_id in ids.tolist())
    return np.unique(np.frombuffer(b"".join(digests), "<u8").astype(np.uint64))


def _digest_of_lines(ids: NDArray[Any], values: list[Any]) -> str:
    lines = sorted(f"{item_id!r} {value!r}" for item_id, value in zip(ids.tolist(), values, strict=True))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
