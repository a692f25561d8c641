"""The whole content of a store, for comparison, and the progress of a job as seen on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNFINISHED = {"parts": "part", "log": "entry", "graphs": "canaries"}
"""What a temporary file in a folder of a store becomes."""


@dataclass(frozen=True)
class Content:
    """All that a store shows: facts of its rows, failed items, and the matrices by name."""

    ids: list[str]
    labels: list[Any]
    splits: list[Any]
    statuses: list[str]
    reasons: list[str | None]
    digests: list[str]
    failures: list[tuple[str, str]]
    matrices: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, path: Path) -> Content:
        """Read all of a store."""
        from topwork.extract.store.feature_store import FeatureStore

        store = FeatureStore.open(path)
        facts = [store.index.column(name) for name in ("status", "reason", "digest")]
        matrices = {column.name: np.array(store.matrix(column.name)) for column in store.columns}
        return cls(store.ids, store.labels, store.splits, *facts, store.failures(), matrices)

    def first(self, rows: int, failures: int) -> Content:
        """Return what a store shows that has only the first rows and failures."""
        lists = [getattr(self, field.name)[:rows] for field in fields(self)[:-2]]
        return Content(*lists, self.failures[:failures], {name: m[:rows] for name, m in self.matrices.items()})

    def differences(self, other: Content) -> list[str]:
        """Return the names of what is not the same, bit for bit."""
        found = [f.name for f in fields(self)[:-1] if getattr(self, f.name) != getattr(other, f.name)]
        if self.matrices.keys() != other.matrices.keys():
            return [*found, "columns"]
        return found + [name for name, matrix in self.matrices.items() if not _same(matrix, other.matrices[name])]


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return (a.shape, a.dtype) == (b.shape, b.dtype) and a.tobytes() == b.tobytes()


def progress(path: Path, whole: int) -> str:
    """Say in a few words how far an interrupted job had come, and what it was about to write.

    Parameters
    ----------
    path : Path
        The store.
    whole : int
        How many parts the job makes before it merges them.
    """
    if not path.is_dir():
        return "creating the store" if any(path.parent.glob(".tmp-*")) else "no store"
    actions = [json.loads(entry.read_bytes())["action"] for entry in sorted((path / "log").glob("[0-9]*.json"))]
    done = actions.count("add_part")
    unfinished = next((file.relative_to(path).parts[0] for file in path.rglob(".tmp-*")), None)
    half = f", {UNFINISHED.get(unfinished, 'index')} half written" if unfinished else ""
    if "compact" in actions:
        left = len(list((path / "parts").iterdir())) - 1
        return f"merged, {left} parts not removed{half}" if left else f"merged{half}"
    return f"merging{half}" if done == whole else f"{done} of {whole} parts{half}"
