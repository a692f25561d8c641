"""A check of everything in the user's cache folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ...atomic import TEMPORARY
from ...errors import CacheError
from ...user_cache import STORES, is_sealed, recall, require_own, user_cache_folder
from .cache_entry import SEAL_SUFFIX, is_intact
from .exported_graph import ExportedGraph

INTACT = "intact"
DAMAGED = "damaged"
UNSAFE = "unsafe"
UNSEALED = "unsealed"
"""Of an entry of an earlier version, or a planted one: it is not used, but made anew."""


def verify_cache() -> dict[str, list[str]]:
    """Compare every entry of the cache with its SHA-256, and whether others may have changed it.

    Returns
    -------
    dict of str to list of str
        By status the entries, as paths relative to the cache folder: ``intact``, ``damaged``, ``unsealed`` (neither is
        used) and ``unsafe``, which other users own or may change.
    """
    root = user_cache_folder()
    found: dict[str, list[str]] = {status: [] for status in (INTACT, DAMAGED, UNSEALED, UNSAFE)}
    for path in sorted(iterate_entries(root)):
        try:
            for above in (path, *path.parents[: len(path.relative_to(root).parts)]):
                require_own(above)
            status = examine_entry(path)
        except CacheError:
            status = UNSAFE
        found[status].append(path.relative_to(root).as_posix())
    return found


def iterate_entries(root: Path) -> Iterator[Path]:
    """Yield the graphs and files of a cache folder; what belongs to a graph is not an entry of its own."""
    for path in root.rglob("*"):
        names = path.relative_to(root).parts
        if any(name.startswith(TEMPORARY) for name in names) or not path.is_file():
            continue
        if names[0] == STORES:  # whose files are compared with the log of their store
            continue
        is_remembered = path.suffix == ".json" and (names[0] != "graphs" or path.name.startswith("fidelity-"))
        is_sealed_canaries = names[0] == "canaries" and path.with_suffix(".npz").is_file() and path.suffix == ".json"
        if path.suffix in (".onnx", ".npz") and names[0] in ("graphs", "canaries"):
            if not path.name.endswith(".canaries.npz"):
                yield path
        elif is_remembered and not is_sealed_canaries:
            yield path


def examine_entry(path: Path) -> str:
    """Return the status of an entry."""
    if path.suffix == ".onnx":
        if not path.with_suffix(SEAL_SUFFIX).is_file():
            return UNSEALED
        is_undamaged = is_intact(ExportedGraph(path))
    elif path.suffix == ".npz":
        if not path.with_suffix(".json").is_file():
            return UNSEALED
        is_undamaged = is_sealed(path.with_suffix(".json"), [path], path.stem)
    else:
        if is_of_earlier_version(path):
            return UNSEALED
        is_undamaged = recall(path) is not None
    return INTACT if is_undamaged else DAMAGED


def is_of_earlier_version(path: Path) -> bool:
    """Return whether a remembered value is whole, but was written without a SHA-256, as earlier versions did."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return not (isinstance(content, dict) and "sha256" in content)
