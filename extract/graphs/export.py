"""Export a cut as one ONNX graph, and prove that it equals the model."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ...atomic import TEMPORARY, new_folder
from ...errors import ExportError, LayerError, ParityError, TopworkError, reason
from ...hardware import installed
from ...identity import COMPUTATION
from ...progress import report_step
from ...user_cache import PRIVATE_MODE
from ..preprocess.by_kind import example_feed
from ..runtime.session import open_session
from .cache_entry import seal_graph
from .canaries import compute_reference_canaries, write_canaries
from .certificate import Certificate
from .certify import certify, check_first_token, check_padding
from .cut import Column, Cut, CutRequest, choose
from .cutting import cutter_for, routes_for
from .exported_graph import GRAPH_FILE, INPUTS_FOLDER, ExportedGraph, write_inputs
from .graph_metadata import GraphMetadata, write_metadata
from .model_file import WEIGHTS_SUFFIX, is_large, save_model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...models.backbone import Backbone
    from ...models.input_spec import InputSpec
    from .routes import Route

TRACING_PACKAGES = ("torch", "timm", "torchvision", "transformers")
"""Packages whose versions decide how a model is traced."""
PACKAGES = ("topwork", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")

Samples: TypeAlias = "Callable[[InputSpec], Sequence[NDArray[Any]]]"
"""Returns some of the user's own items, prepared for a model with this input specification."""


def no_samples(spec: InputSpec) -> Sequence[NDArray[Any]]:
    """Return no items: the certificate then rests on random inputs alone."""
    return ()


def export(
    backbone: Backbone,
    request: CutRequest,
    folder: Path,
    samples: Samples = no_samples,
    routes: Sequence[Route] | None = None,
) -> ExportedGraph:
    """Cut a backbone, export it with one output for each layer and pooling, and compare it with the model.

    The new folder holds ``graph.onnx``, large weights in ``graph.weights`` beside it, its certificate ``graph.json``,
    and ``inputs/`` for a tokeniser. Where an exporter fails or its graph deviates, the next route is tried, by default
    those for the kind of backbone; an error is raised when all have failed: a LayerError, ExportError or ParityError.
    """
    items = samples(backbone.input_spec)
    failures: dict[str, TopworkError] = {}
    if routes is None:
        routes = routes_for(backbone)
    for route in routes:
        refused = tuple(f"{name}: {reason(error)}" for name, error in failures.items())
        with scratch_folder(folder) as scratch:
            try:
                cut = choose(cutter_for(backbone, route.tracing), request)
                check_first_token(cut)
                check_padding(cut)
                exported = export_by_route(cut, route, scratch, items=items, refused=refused)
            except (LayerError, ExportError) as error:
                if isinstance(error, LayerError) and not failures:
                    raise
                failures[route.name] = error
            else:
                return save_graph(exported, backbone.input_spec, folder)
    raise choose_most_informative(list(failures.values()))


def choose_most_informative(failures: Sequence[TopworkError]) -> TopworkError:
    """Return why a graph deviated if one did, otherwise why the first exporter failed."""
    for error in failures:
        if isinstance(error, ParityError):
            return error
    return failures[0]


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder on the disk of another folder, for files that are moved there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}{folder.name}-", dir=folder.parent) as scratch:
        yield Path(scratch)


@dataclass(frozen=True)
class Export:
    """A graph, the evidence that it equals its cut, and the canaries of the cut.

    `model` is the content of an ONNX file, or the path of one that has its weights beside it.
    """

    model: bytes | Path
    certificate: Certificate
    canary_items: Sequence[Any]
    canary_features: dict[str, NDArray[np.float32]]


def export_by_route(
    cut: Cut, route: Route, scratch: Path, items: Sequence[NDArray[Any]] = (), refused: Sequence[str] = ()
) -> Export:
    """Export a cut by one route, and collect the evidence that the graph equals the cut.

    Large graphs are written into the folder `scratch`. Real items to check with are given as the preprocessor prepares
    them; `refused` are the routes that were tried before. An exporter that cannot follow the model raises an
    ExportError, a graph that differs from it a ParityError.
    """
    # Export and describe the graph.
    backbone = cut.backbone
    report_step(f"exporting {backbone.name}")
    model = cut.cutter.onnx_model(cut, route, (scratch / GRAPH_FILE).with_suffix(WEIGHTS_SUFFIX))
    strip(model)
    widths = [features.shape[1] for features in cut.cutter.reference(cut, example_feed(backbone.input_spec))]
    declare_widths(model, widths)
    metadata = GraphMetadata(
        {**backbone.identity(), COMPUTATION: cut.cutter.digest_computation()},
        make_columns(cut, widths),
        versions=installed(TRACING_PACKAGES),
    )
    write_metadata(model, metadata)
    graph: bytes | Path = scratch / GRAPH_FILE
    if is_large(model):
        save_model(model, scratch / GRAPH_FILE)
    else:
        graph = model.SerializeToString()
    del model  # the session and the model on trial are in memory as well
    # Compare it with the model.
    report_step(f"comparing the export with {backbone.name}")
    try:
        session = open_session(graph, "cpu")
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot load the graph of {backbone.name}: {reason(error)}") from error
    certificate = certify(cut, session, versions=package_versions(), items=items, route=route.name, refused=refused)
    canary_items, canary_features = compute_reference_canaries(cut)
    return Export(graph, certificate, canary_items, canary_features)


def save_graph(exported: Export, spec: InputSpec, folder: Path) -> ExportedGraph:
    """Make the folder of a graph, unless another process was faster."""
    with contextlib.suppress(FileExistsError), new_folder(folder) as temporary:
        graph = ExportedGraph(temporary / GRAPH_FILE)
        if isinstance(exported.model, Path):
            for file in (exported.model, exported.model.with_suffix(WEIGHTS_SUFFIX)):
                file.rename(temporary / file.name)
        else:
            graph.path.write_bytes(exported.model)
        graph.write_certificate(exported.certificate)
        write_canaries(graph.canaries_path, exported.canary_items, reference=exported.canary_features)
        write_inputs(spec, temporary / INPUTS_FOLDER)
        temporary.chmod(PRIVATE_MODE)
        seal_graph(graph, entry=folder.name)
    return ExportedGraph(folder / GRAPH_FILE)


def make_columns(cut: Cut, widths: Sequence[int]) -> tuple[Column, ...]:
    """Return the columns of a cut, given their numbers of features."""
    columns = []
    for name, (layer, pool), width in zip(cut.names, cut.chosen, widths, strict=True):
        columns.append(Column(name, layer.name, pool, width=width, normalize=cut.normalize))
    return tuple(columns)


def declare_widths(model: Any, widths: Sequence[int]) -> None:
    """Write the number of features into the graph's outputs, where the exporter left it open."""
    for output, width in zip(model.graph.output, widths, strict=True):
        axes = output.type.tensor_type.shape.dim
        if len(axes) == 2 and not axes[1].HasField("dim_value"):
            axes[1].dim_value = width


def strip(model: Any) -> None:
    """Remove the stack traces and file names that exporters write beside every operation of an ``onnx.ModelProto``."""
    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]


def package_versions(*more: str) -> dict[str, str]:
    """Return the versions of the packages that an export depends on, without importing them."""
    return installed((*PACKAGES, *more))
