"""Seals of cached graphs: the SHA-256 of everything that is trusted when a graph is found again."""

from __future__ import annotations

from pathlib import Path

from ...user_cache import is_sealed, require_own, seal
from .exported_graph import ExportedGraph

SEAL_SUFFIX = ".seal.json"


def seal_graph(graph: ExportedGraph, entry: str) -> None:
    """Write the SHA-256 of a graph, its certificate, canaries, weights and inputs beside it.

    `entry` is the name of its folder, so that a graph is not accepted in the place of another.
    """
    seal(graph.path.with_suffix(SEAL_SUFFIX), list_sealed_files(graph), f"{entry}/{graph.path.name}")


def is_intact(graph: ExportedGraph) -> bool:
    """Return whether a graph is there, and is what was sealed.

    Raise a CacheError if another user owns one of its files or may change it.
    """
    seal_path = graph.path.with_suffix(SEAL_SUFFIX)
    folder = graph.path.parent
    if not graph.path.is_file():
        return False
    require_own(folder)
    if not seal_path.is_file():
        return False
    try:
        files = list_sealed_files(graph)
    except (ValueError, KeyError, TypeError):  # a graph that cannot be read has no metadata
        return False
    return is_sealed(seal_path, files, f"{folder.name}/{graph.path.name}")


def list_sealed_files(graph: ExportedGraph) -> list[Path]:
    """Return the files that a graph consists of, those of its inputs with them."""
    inputs = sorted(path for path in graph.inputs_folder.rglob("*") if path.is_file())
    return [*graph.list_files(), *inputs]
