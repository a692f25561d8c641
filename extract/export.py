"""Export a cut as one ONNX graph, and prove that it is the same network."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ExportError, reason
from .atomic import new_folder
from .certificate import Certificate, certify
from .cut import Column, Cut, choose, cut_network
from .flow import EXAMPLE_BATCH
from .graph import METADATA_KEY, ExportedGraph, GraphMetadata
from .session import Session, open_session
from .trace import trace

if TYPE_CHECKING:
    from torch import nn

    from ..models.backbone import Backbone

OPSET = 20
INPUT_NAME = "image"
GRAPH_FILE = "graph.onnx"
PACKAGES = ("topwork", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


def export(backbone: Backbone, layers: Sequence[str], pools: Sequence[str], folder: Path) -> ExportedGraph:
    """Cut a backbone, export it with one output for each layer and pooling, and check it against the network.

    Parameters
    ----------
    backbone : Backbone
    layers : sequence of str
        Names from :func:`topwork.layers`, or "last".
    pools : sequence of str
        Each is applied to each layer.
    folder : Path
        Made by this function, with ``graph.onnx`` and its certificate ``graph.json``.

    Returns
    -------
    ExportedGraph
        The file, described by its own metadata.

    Raises
    ------
    LayerError
        If a layer or pooling does not exist or apply.
    ExportError
        If the exporter fails.
    ParityError
        If the graph differs from the network.
    """
    cut = choose(backbone, trace(backbone), layers, pools)
    model = _onnx_model(cut, cut_network(cut))
    session = open_session(model.SerializeToString(), "cpu")
    certificate = certify(cut, session, package_versions())
    metadata = GraphMetadata(backbone.identity(), _columns(cut, session))
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, metadata.to_text()
    return _save(model.SerializeToString(), certificate, folder)


def _save(content: bytes, certificate: Certificate, folder: Path) -> ExportedGraph:
    with contextlib.suppress(FileExistsError), new_folder(folder) as temporary:  # another process may have been faster
        (temporary / GRAPH_FILE).write_bytes(content)
        text = json.dumps(certificate.to_json(), indent=1)
        ExportedGraph(temporary / GRAPH_FILE).certificate_path.write_text(text, encoding="utf-8")
    return ExportedGraph(folder / GRAPH_FILE)


def _columns(cut: Cut, session: Session) -> tuple[Column, ...]:
    widths = [output.shape[1] for output in session.runtime.get_outputs()]
    columns = []
    for name, (layer, pool), width in zip(cut.names, cut.chosen, widths, strict=True):
        if not isinstance(width, int):
            raise ExportError(f"output {name!r} has no fixed number of features, but {width!r}")
        columns.append(Column(name, layer.name, pool, width))
    return tuple(columns)


def _onnx_model(cut: Cut, network: nn.Module) -> Any:
    """Run torch's exporter, and strip what does not belong to the graph."""
    import torch

    height, width = cut.backbone.input_spec.size
    example = torch.zeros(EXAMPLE_BATCH, height, width, 3, dtype=torch.uint8)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=list(cut.names),
                verbose=False,
            )
    except Exception as error:
        raise ExportError(
            f"{cut.backbone.name} cannot be exported at {', '.join(cut.names)}: {reason(error)}"
        ) from error
    assert program is not None
    return _stripped(program.model_proto)


def _stripped(model: Any) -> Any:
    """Remove stack traces and file names that the exporter writes beside every operation."""
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says about itself; what matters is checked afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def package_versions(*more: str) -> dict[str, str]:
    """Return the versions of the packages that an export depends on, without importing them."""
    found = {}
    for package in (*PACKAGES, *more):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
