"""What the user's cache folder holds, and how it is emptied."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...user_cache import ENGINES, STORES, TUNING, discard, user_cache_folder
from .exported_graph import GRAPH_FILE, ExportedGraph

KINDS = ("graphs", "canaries", "computations", "measured", TUNING, ENGINES, STORES)
"""Folders of the cache; others in it are not topwork's."""
NAME = re.compile(r"[0-9a-f]{32}([0-9a-f]{32})?(\.json|\.npz)?")
"""Names of entries: digests."""
SECONDS_PER_DAY = 24 * 3600


@dataclass(frozen=True)
class CacheEntry:
    """A folder or file of the cache that is used, and can be removed, as a whole.

    Parameters
    ----------
    path : Path
        It lies in a folder of its kind: ``graphs``, ``canaries``, ``computations``, ``measured``, ``tuning``,
        ``engines`` or ``stores``.
    bytes : int
        Size of all its files.
    written : float
        When one of its files was written last, in seconds since 1970.
    """

    path: Path
    bytes: int
    written: float

    @property
    def kind(self) -> str:
        """The name of the folder that it lies in."""
        return self.path.parent.name

    def describe(self) -> dict[str, Any]:
        """Return backbone and layers of a graph, and what every entry has: path, bytes and age in days."""
        age = (time.time() - self.written) / SECONDS_PER_DAY
        facts: dict[str, Any] = {"path": str(self.path), "bytes": self.bytes, "age_days": round(age, 1)}
        graph_file = self.path / GRAPH_FILE
        if not graph_file.is_file():
            return facts
        try:
            metadata = ExportedGraph(graph_file).metadata
            backbone = metadata.backbone["architecture"]
        except (ValueError, KeyError, TypeError):
            return {**facts, "backbone": None, "layers": []}
        layers = list(dict.fromkeys(column.layer for column in metadata.columns))
        return {**facts, "backbone": backbone, "layers": layers}


def list_entries() -> list[CacheEntry]:
    """Return every entry of the cache, those of a kind together, the newest first."""
    root = user_cache_folder()
    entries: list[CacheEntry] = []
    for kind in KINDS:
        paths = [path for path in (root / kind).glob("*") if NAME.fullmatch(path.name)]
        found = [entry for path in paths if (entry := measure_entry(path)) is not None]
        entries += sorted(found, key=lambda entry: -entry.written)
    return entries


def measure_entry(path: Path) -> CacheEntry | None:
    """Return size and time of an entry; None if another process has removed it meanwhile."""
    try:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        status = [file.stat() for file in files] or [path.stat()]
    except FileNotFoundError:
        return None
    size = sum(one.st_size for one in status) if files else 0
    return CacheEntry(path, bytes=size, written=max(one.st_mtime for one in status))


def choose_entries(older_than: float | None) -> list[CacheEntry]:
    """Return the entries that were written at least `older_than` days ago; all if it is None."""
    if older_than is None:
        return list_entries()
    if older_than < 0:
        raise InputError(f"--older-than {older_than:g}: expected a number of days, 0 or more")
    latest = time.time() - older_than * SECONDS_PER_DAY
    return [entry for entry in list_entries() if entry.written <= latest]


def remove_entries(entries: list[CacheEntry]) -> None:
    """Remove entries; a process that has opened one goes on with it, and what is needed again is made anew."""
    for entry in entries:
        discard(entry.path)
