"""All that a store shows, to be compared, and how far a job has come, by what is on disk."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def progress(path: Path) -> str:
    """Say in a few words how far an interrupted job had come, and what it was about to write."""
    if not path.is_dir():
        return "creating the store" if any(path.parent.glob(".tmp-*")) else "no store"
    entries = sorted((path / "log").glob("[0-9]*.json"))
    parts = len([part for part in (path / "parts").iterdir() if part.name.startswith("p")])
    is_merged = bool(entries) and b'"compact"' in entries[-1].read_bytes()
    unfinished = [_unfinished(file.relative_to(path), path) for file in sorted(path.rglob(".tmp-*"))]
    begun = f", {unfinished[0]} half written" if unfinished else ""
    if is_merged:
        return f"merged, {'index' if _is_saved(path) else 'no index'}, {parts} parts on disk{begun}"
    return f"{parts} parts{begun}"


def _unfinished(name: Path, root: Path) -> str:
    if name.parts[0] == "parts":
        is_merging = any((root / name).glob("blocks.json")) or not any((root / name).glob("*.parquet"))
        return "a part" if not is_merging else "a part or the merged one"
    return {"log": "an entry", "graphs": "canaries"}.get(name.parts[0], "the index")


def _is_saved(path: Path) -> bool:
    return (path / "index.arrow").is_file()
