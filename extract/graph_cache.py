"""Exported graphs, kept per user under a key that needs no torch to compute."""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..models.backbone import Backbone
from ..models.loading import BackboneSpec
from .export import GRAPH_FILE, export, package_versions
from .graph import GRAPH_FORMAT, ExportedGraph
from .identity import digest

SOURCE_PACKAGES = ("timm", "torchvision", "transformers")


_exported: weakref.WeakKeyDictionary[Backbone, dict[Any, ExportedGraph]] = weakref.WeakKeyDictionary()
_session_folder: list[tempfile.TemporaryDirectory[str]] = []


def graph_for(
    backbone: str | BackboneSpec | Backbone | ExportedGraph, layers: Sequence[str], pools: Sequence[str]
) -> ExportedGraph:
    """Return the graph of a cut, exported only if it was not before.

    Parameters
    ----------
    backbone : str, BackboneSpec, Backbone or ExportedGraph
        A graph stands for itself; the layers and poolings must be among its own.
    layers, pools : sequence of str
        As for :func:`topwork.extract.export.export`.
    """
    if isinstance(backbone, ExportedGraph):
        return _checked(backbone, layers, pools)
    spec = BackboneSpec(backbone) if isinstance(backbone, str) else backbone
    if isinstance(spec, BackboneSpec):
        return _cached(spec, spec.load, layers, pools)
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"backbone is a {type(backbone).__name__}; expected a name such as 'timm:resnet50', or what "
            "load_backbone returns (a module needs load_backbone(module, input_spec=…))"
        )
    if backbone.spec is not None:
        return _cached(backbone.spec, lambda: backbone, layers, pools)
    return _exported_once(backbone, tuple(layers), tuple(pools))


def _cached(
    spec: BackboneSpec, load: Callable[[], Backbone], layers: Sequence[str], pools: Sequence[str]
) -> ExportedGraph:
    folder = cache_folder() / request_key(spec, layers, pools)
    if (folder / GRAPH_FILE).is_file():
        return ExportedGraph(folder / GRAPH_FILE)
    return export(load(), layers, pools, folder)


def _exported_once(backbone: Backbone, layers: tuple[str, ...], pools: tuple[str, ...]) -> ExportedGraph:
    """Export a caller's module once per process: no key would tell its code from another's."""
    if not _session_folder:
        _session_folder.append(tempfile.TemporaryDirectory(prefix="topwork-"))
    graphs = _exported.setdefault(backbone, {})
    if (layers, pools) not in graphs:
        folder = Path(_session_folder[0].name) / uuid.uuid4().hex
        graphs[layers, pools] = export(backbone, layers, pools, folder)
    return graphs[layers, pools]


def _checked(graph: ExportedGraph, layers: Sequence[str], pools: Sequence[str]) -> ExportedGraph:
    columns = graph.metadata.columns
    there = {(c.layer, c.pool) for c in columns}
    wanted = [(layer, pool) for layer in layers for pool in pools if (layer, "none") not in there]
    missing = [pair for pair in wanted if pair not in there]
    if missing:
        cuts = ", ".join(f"{c.layer} ({c.pool})" for c in columns)
        raise InputError(
            f"layer {missing[0][0]!r} with pool {missing[0][1]!r} is not in this graph, exported with {cuts}; "
            "another cut needs the backbone itself"
        )
    return graph


def request_key(spec: BackboneSpec, layers: Sequence[str], pools: Sequence[str]) -> str:
    """Return the digest of everything that decides a graph: specification, options, weights file, versions."""
    return digest(
        {
            "format": GRAPH_FORMAT,
            "backbone": spec.request(),
            "layers": list(layers),
            "pools": list(pools),
            "versions": package_versions(*SOURCE_PACKAGES),
        }
    )


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
