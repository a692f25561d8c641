"""Lineage of a head: the features, rows and labels that it was trained on, and its parent."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ...identity import digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.extractor.extractor import Extractor

HASHED_BYTES = 8
"""Number of bytes of an id's SHA-256 that a bundle keeps."""


def describe_training(extractor: Extractor, ids: NDArray[Any] | None, labels: NDArray[Any]) -> dict[str, Any]:
    """Return the lineage of a head that was trained without a parent; ``refit`` adds to it.

    It has ``parent``, the SHA-256 of the manifest of the parent's bundle (here None); digests of the ``input`` identity
    and of the ``columns``; the number of ``rows``; digests of their ``ids`` (by default their positions) and of their
    ids with ``labels``, which do not depend on the order of the rows.
    """
    known_ids = np.arange(len(labels)) if ids is None else ids
    return {
        "parent": None,
        "input": digest(extractor.identity),
        "columns": digest([column.to_json() for column in extractor.columns]),
        "rows": len(labels),
        "ids": _digest_pairs(known_ids, [""] * len(labels)),
        "labels": _digest_pairs(known_ids, labels.tolist()),
    }


def hash_ids(ids: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the distinct hashes of ids, ascending: with them a child can check what its parent has learned from."""
    return np.unique(hash_each_id(ids))


def hash_each_id(ids: NDArray[Any]) -> NDArray[np.uint64]:
    """Return 64 bits of the SHA-256 of each id, in their order."""
    hashes = bytearray()
    for item_id in ids.tolist():
        encoded = str(item_id).encode("utf-8", "surrogatepass")
        hashes += hashlib.sha256(encoded).digest()[:HASHED_BYTES]
    return np.frombuffer(bytes(hashes), "<u8").astype(np.uint64)


def _digest_pairs(ids: NDArray[Any], values: list[Any]) -> str:
    """Return the SHA-256 of the sorted lines ``id value``."""
    lines = sorted(f"{item_id!r} {value!r}" for item_id, value in zip(ids.tolist(), values, strict=True))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
