"""Export a cut as one ONNX graph, and prove that it is the same network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ...atomic import new_folder
from ...errors import ExportError, LayerError, ParityError, TopworkError, reason
from ...hardware import installed
from ..preprocess.by_kind import example_feed
from ..runtime.session import open_session
from .certificate import Certificate
from .certify import certify
from .cut import Column, Cut, CutRequest, choose
from .cutting import cutter_for, routes_for
from .exported_graph import GRAPH_FILE, INPUTS_FOLDER, ExportedGraph, GraphMetadata, write_inputs, write_metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...models.backbone import Backbone
    from ...models.input_spec import InputSpec
    from .cutting import Cutter
    from .routes import Route, Tracing

PACKAGES = ("topwork", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")

Samples: TypeAlias = "Callable[[InputSpec], Sequence[NDArray[Any]]]"
"""Yields some of the user's own items, prepared for a network that eats what the specification says."""


def no_samples(spec: InputSpec) -> Sequence[NDArray[Any]]:
    """Return no items: the certificate then rests on random inputs alone."""
    return ()


def export(backbone: Backbone, request: CutRequest, folder: Path, samples: Samples = no_samples) -> ExportedGraph:
    """Cut a backbone, export it with one output for each layer and pooling, and check it against the network.

    Where the exporter fails or its graph deviates, other ways are tried in the order of
    :mod:`topwork.extract.graphs.routes`.

    Parameters
    ----------
    backbone : Backbone
    request : CutRequest
        Layers and poolings.
    folder : Path
        Made by this function, with ``graph.onnx``, its certificate ``graph.json``, and ``inputs/`` for a tokeniser.
    samples : callable, optional
        Returns real items to check with.

    Returns
    -------
    ExportedGraph
        The file, described by its own metadata.

    Raises
    ------
    LayerError
        If a layer or pooling does not exist or apply.
    ExportError
        If no exporter can follow the network.
    ParityError
        If every graph differs from the network.
    """
    items, failures = samples(backbone.input_spec), dict[str, TopworkError]()
    cutters: dict[Tracing, Cutter] = {}
    for route in routes_for(backbone):
        refused = tuple(f"{name}: {reason(error)}" for name, error in failures.items())
        try:
            if route.tracing not in cutters:
                cutters[route.tracing] = cutter_for(backbone, route.tracing)
            model, certificate = _attempt(choose(cutters[route.tracing], request), route, items, refused)
        except (ExportError, ParityError, LayerError) as error:
            if isinstance(error, LayerError) and not failures:
                raise
            failures[route.name] = error
        else:
            return _save(model, backbone, certificate, folder)
    raise _most_telling(list(failures.values()))


def _most_telling(failures: Sequence[TopworkError]) -> TopworkError:
    """Return why a graph differed if one did, or else why the first exporter failed."""
    return next((error for error in failures if isinstance(error, ParityError)), failures[0])


def _attempt(cut: Cut, route: Route, items: Sequence[NDArray[Any]], refused: Sequence[str]) -> tuple[Any, Certificate]:
    """Export by one route."""
    backbone = cut.backbone
    model = stripped(cut.cutter.onnx_model(cut, route))
    widths = [x.shape[1] for x in cut.cutter.reference(cut, example_feed(backbone.input_spec))]
    _declare(model, widths)
    try:
        session = open_session(model.SerializeToString(), "cpu")
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot load the graph of {backbone.name}: {reason(error)}") from error
    certificate = certify(cut, session, package_versions(), items, route.name, refused)
    write_metadata(model, GraphMetadata(backbone.identity(), _columns(cut, widths)))
    return model, certificate


def _save(model: Any, backbone: Backbone, certificate: Certificate, folder: Path) -> ExportedGraph:
    with contextlib.suppress(FileExistsError), new_folder(folder) as temporary:  # another process may have been faster
        (temporary / GRAPH_FILE).write_bytes(model.SerializeToString())
        ExportedGraph(temporary / GRAPH_FILE).write_certificate(certificate)
        write_inputs(backbone.input_spec, temporary / INPUTS_FOLDER)
    return ExportedGraph(folder / GRAPH_FILE)


def _columns(cut: Cut, widths: Sequence[int]) -> tuple[Column, ...]:
    named = zip(cut.names, cut.chosen, widths, strict=True)
    return tuple(Column(name, layer.name, pool, width, cut.normalize) for name, (layer, pool), width in named)


def _declare(model: Any, widths: Sequence[int]) -> None:
    """Write the number of features into the graph's outputs, where the exporter left it open."""
    for output, width in zip(model.graph.output, widths, strict=True):
        axes = output.type.tensor_type.shape.dim
        if len(axes) == 2 and not axes[1].HasField("dim_value"):
            axes[1].dim_value = width


def stripped(model: Any) -> Any:
    """Remove stack traces and file names that exporters write beside every operation."""
    del model.metadata_props[:], model.graph.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
    for part in (
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.initializer,
        *model.graph.input,
        *model.graph.output,
    ):
        part.doc_string = ""
        del part.metadata_props[:]
    del model.graph.value_info[:]
    return model


def package_versions(*more: str) -> dict[str, str]:
    """Return the versions of the packages that an export depends on, without importing them."""
    return installed((*PACKAGES, *more))
