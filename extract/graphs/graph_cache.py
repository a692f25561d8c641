"""Exported graphs, kept per user under a key that needs no torch to compute."""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
import weakref
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...identity import digest
from ...models.backbone import Backbone
from ...models.loading import BackboneSpec
from .cut import CutRequest
from .export import Samples, export, no_samples, package_versions
from .exported_graph import GRAPH_FILE, GRAPH_FORMAT, ExportedGraph
from .pooling import AUTO

SOURCE_PACKAGES = ("timm", "torchvision", "transformers")


_exported: weakref.WeakKeyDictionary[Backbone, dict[Any, ExportedGraph]] = weakref.WeakKeyDictionary()
_session_folder: list[tempfile.TemporaryDirectory[str]] = []


def graph_for(
    backbone: str | BackboneSpec | Backbone | ExportedGraph, request: CutRequest, samples: Samples = no_samples
) -> ExportedGraph:
    """Return the graph of a cut, exported only if it was not before.

    Parameters
    ----------
    backbone : str, BackboneSpec, Backbone or ExportedGraph
        A graph stands for itself; the layers and poolings must be among its own.
    request : CutRequest
        Layers and poolings.
    samples : callable, optional
        Returns real items; a graph that is exported now is checked with them.
    """
    if isinstance(backbone, ExportedGraph):
        return _checked(backbone, request)
    spec = BackboneSpec(backbone) if isinstance(backbone, str) else backbone
    if isinstance(spec, BackboneSpec):
        return _cached(spec, spec.load, request, samples)
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"backbone is a {type(backbone).__name__}; expected a name such as 'timm:resnet50', or what "
            "load_backbone returns (a module needs load_backbone(module, input_spec=…))"
        )
    if backbone.spec is not None:
        return _cached(backbone.spec, lambda: backbone, request, samples)
    return _exported_once(backbone, request, samples)


def _cached(spec: BackboneSpec, load: Callable[[], Backbone], request: CutRequest, samples: Samples) -> ExportedGraph:
    folder = cache_folder() / request_key(spec, request)
    if (folder / GRAPH_FILE).is_file():
        return ExportedGraph(folder / GRAPH_FILE)
    return export(load(), request, folder, samples)


def _exported_once(backbone: Backbone, request: CutRequest, samples: Samples) -> ExportedGraph:
    """Export a caller's module once per process: no key would tell its code from another's."""
    if not _session_folder:
        _session_folder.append(tempfile.TemporaryDirectory(prefix="topwork-"))
    graphs = _exported.setdefault(backbone, {})
    if request not in graphs:
        folder = Path(_session_folder[0].name) / uuid.uuid4().hex
        graphs[request] = export(backbone, request, folder, samples)
    return graphs[request]


def _checked(graph: ExportedGraph, request: CutRequest) -> ExportedGraph:
    columns = graph.metadata.columns
    there = {(c.layer, c.pool) for c in columns} | {(c.layer, AUTO) for c in columns}
    wanted = [(layer, pool) for layer in request.layers for pool in request.pools if (layer, "none") not in there]
    missing = [pair for pair in wanted if pair not in there]
    if missing:
        cuts = ", ".join(f"{c.layer} ({c.pool})" for c in columns)
        raise InputError(
            f"layer {missing[0][0]!r} with pool {missing[0][1]!r} is not in this graph, exported with {cuts}; "
            "another cut needs the backbone itself"
        )
    if request.normalize != columns[0].normalize:
        raise InputError(f"this graph was exported with normalize={columns[0].normalize}; another needs the backbone")
    return graph


def request_key(spec: BackboneSpec, request: CutRequest) -> str:
    """Return the digest of everything that decides a graph: specification, options, weights file, versions."""
    return digest(
        {
            "format": GRAPH_FORMAT,
            "backbone": spec.request(),
            "request": asdict(request),
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
