"""Exported graphs, kept per user under a key that needs no torch to compute."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .export import GRAPH_FILE, export, package_versions
from .graph import GRAPH_FORMAT, ExportedGraph
from .identity import digest

if TYPE_CHECKING:
    from ..models.loading import BackboneSpec

SOURCE_PACKAGES = ("timm", "torchvision", "transformers")


def cached_graph(spec: BackboneSpec, layers: Sequence[str], pools: Sequence[str]) -> ExportedGraph:
    """Return the graph for a request; load and export the backbone if no graph is cached.

    Parameters
    ----------
    spec : BackboneSpec
    layers, pools : sequence of str
        As for :func:`topwork.extract.export.export`.
    """
    folder = cache_folder() / request_key(spec, layers, pools)
    if (folder / GRAPH_FILE).is_file():
        return ExportedGraph(folder / GRAPH_FILE)
    return export(spec.load(), layers, pools, folder)


def request_key(spec: BackboneSpec, layers: Sequence[str], pools: Sequence[str]) -> str:
    """Return the digest of everything that decides a graph: specification, options, weights file, versions."""
    return digest({"format": GRAPH_FORMAT, "backbone": spec.request(), "layers": list(layers), "pools": list(pools),
                   "versions": package_versions(*SOURCE_PACKAGES)})


def cache_folder() -> Path:
    """Return where graphs are cached: ``TOPWORK_CACHE``, or the user's cache folder."""
    if "TOPWORK_CACHE" in os.environ:
        return Path(os.environ["TOPWORK_CACHE"]) / "graphs"
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return root / "topwork" / "graphs"
