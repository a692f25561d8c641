"""Exported graphs, cached per user under a key that needs no torch to compute."""

from __future__ import annotations

import itertools
import tempfile
import uuid
import weakref
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from ...errors import InputError
from ...identity import digest
from ...models.backbone import Backbone, Loadable, TorchBackbone
from ...models.loading import BackboneSpec
from ...user_cache import discard, prepare_folder, user_cache_folder
from .cache_entry import is_intact
from .cut import Column, CutRequest
from .export import Samples, export, no_samples, package_versions
from .exported_graph import GRAPH_FILE, ExportedGraph
from .pooling import satisfies

CACHE_FORMAT = 2
"""Version of what is kept of an exported graph; graphs of an earlier version are exported anew."""
SOURCE_PACKAGES = ("timm", "torchvision", "transformers")

Exporter = Callable[[Backbone, CutRequest, Path, Samples], ExportedGraph]

MAX_KEPT_BACKBONES = 4
MAX_KEPT_BYTES = 32 * 2**20
"""Size of the weights of a backbone up to which it is kept, to be traced once for all its cuts."""

_kept_backbones: dict[str, TorchBackbone] = {}
"""The last named backbones that were exported, by the digests of their requests; no caller ever gets one."""
_graphs_of_process: weakref.WeakKeyDictionary[Backbone, dict[CutRequest, ExportedGraph]] = weakref.WeakKeyDictionary()
_folder_of_process: list[tempfile.TemporaryDirectory[str]] = []


def graph_for(
    backbone: str | BackboneSpec | Backbone | ExportedGraph,
    request: CutRequest,
    samples: Samples = no_samples,
    exporter: Exporter = export,
) -> ExportedGraph:
    """Return the graph of a cut, exported and checked with the samples only if it was not before.

    A graph is returned unchanged; one without these layers and poolings raises an InputError, as does a backbone of
    another type.
    """
    if isinstance(backbone, ExportedGraph):
        check_request(backbone, request)
        return backbone
    if isinstance(backbone, str):
        backbone = BackboneSpec(backbone)
    if isinstance(backbone, BackboneSpec):
        spec: Loadable = backbone
    elif isinstance(backbone, Backbone):
        if backbone.spec is None:
            return export_once_per_process(backbone, request, samples=samples, exporter=exporter)
        spec = backbone.spec
    else:
        raise InputError(
            f"backbone is a {type(backbone).__name__}; expected a name such as 'timm:resnet50', or what "
            "load_backbone returns (a module needs load_backbone(module, input_spec=…))"
        )
    folder = prepare_folder(cache_folder()) / request_key(spec, request)
    cached = ExportedGraph(folder / GRAPH_FILE)
    if is_intact(cached):
        return cached
    discard(folder)
    loaded = load_or_reuse(backbone) if isinstance(backbone, BackboneSpec) else backbone
    return exporter(loaded, request, folder, samples)


def load_or_reuse(spec: BackboneSpec) -> Backbone:
    """Load a backbone, or return the one that another cut was made of, with its traces; only small ones are kept.

    What is kept must not be given to a caller, who may change it.
    """
    key = digest(spec.request())
    loaded = _kept_backbones.pop(key, None) or spec.load()
    if isinstance(loaded, TorchBackbone) and count_bytes(loaded) <= MAX_KEPT_BYTES:
        if len(_kept_backbones) == MAX_KEPT_BACKBONES:
            del _kept_backbones[next(iter(_kept_backbones))]
        _kept_backbones[key] = loaded
    return loaded


def is_kept(backbone: Backbone) -> bool:
    """Return whether further exports will use a loaded backbone."""
    return any(backbone is kept for kept in _kept_backbones.values())


def count_bytes(backbone: TorchBackbone) -> int:
    """Return the size of a backbone's weights."""
    return sum(tensor.nbytes for tensor in backbone.module.state_dict().values())


def export_once_per_process(
    backbone: Backbone, request: CutRequest, *, samples: Samples, exporter: Exporter
) -> ExportedGraph:
    """Export a module of the caller's once per process: no key would distinguish its code from another's."""
    if not _folder_of_process:
        _folder_of_process.append(tempfile.TemporaryDirectory(prefix="topwork-"))
    graphs = _graphs_of_process.setdefault(backbone, {})
    if request not in graphs:
        folder = Path(_folder_of_process[0].name) / uuid.uuid4().hex
        graphs[request] = exporter(backbone, request, folder, samples)
    return graphs[request]


def check_request(graph: ExportedGraph, request: CutRequest) -> None:
    """Raise an InputError if a graph does not compute what is asked for."""
    columns = graph.metadata.columns
    for layer, pool in itertools.product(request.layers, request.pools):
        if not has_cut(columns, layer, pool):
            cuts = ", ".join(f"{column.layer} ({column.pool})" for column in columns)
            raise InputError(
                f"layer {layer!r} with pool {pool!r} is not in this graph, exported with {cuts}; "
                "another cut needs the backbone itself"
            )
    if request.normalize != columns[0].normalize:
        raise InputError(f"this graph was exported with normalize={columns[0].normalize}; another needs the backbone")


def has_cut(columns: Iterable[Column], layer: str, pool: str) -> bool:
    """Return whether a layer is among the columns with a pooling, or is a vector, which is never pooled."""
    return any(column.layer == layer and satisfies(column.pool, pool) for column in columns)


def request_key(spec: Loadable, request: CutRequest) -> str:
    """Return the digest of everything that decides a graph: specification, options, weights file, versions."""
    return digest(
        {
            "format": CACHE_FORMAT,
            "backbone": spec.request(),
            "request": asdict(request),
            "versions": package_versions(*SOURCE_PACKAGES),
        }
    )


def cache_folder() -> Path:
    """Return the folder of cached graphs."""
    return user_cache_folder() / "graphs"
