"""Graphs in lower precision, written beside their originals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ...atomic import write_file
from ...errors import InputError
from ...identity import digest
from ..graphs.exported_graph import ExportedGraph
from ..graphs.graph_metadata import write_metadata
from ..runtime.providers import is_found_on_items, parse_family
from .int8 import Calibration, quantized


@dataclass(frozen=True)
class Lowering:
    """A way to compute a graph in a lower precision.

    Parameters
    ----------
    family : {"bf16", "fp16", "int8"}
        For bf16 the file differs only in what it says of itself: the provider rounds as it computes.
    kept : tuple of str
        Operations that stay in float32; for bf16 one value: what it is computed from stays in float32.
    calibration : Calibration, optional
        For int8.
    """

    family: str
    kept: tuple[str, ...] = ()
    calibration: Calibration | None = None

    @property
    def precision(self) -> str:
        """What columns say."""
        if not self.kept and self.calibration is None:
            return self.family
        return f"{self.family}:{digest([self.kept, self.calibration and self.calibration.ranges])[:8]}"

    @property
    def float32_until(self) -> str:
        """See :class:`topwork.extract.graphs.graph_metadata.GraphMetadata`."""
        return self.kept[0] if self.family == "bf16" and self.kept else ""

    def model(self, graph: ExportedGraph) -> Any:
        """Return the graph's ``onnx.ModelProto`` in this precision."""
        import onnx

        if self.calibration is not None:
            return quantized(self.calibration, self.kept)
        model = onnx.load(graph.path)
        if self.family == "fp16":
            from onnxruntime.transformers.float16 import convert_float_to_float16

            return convert_float_to_float16(model, keep_io_types=True, node_block_list=list(self.kept))
        return model

    def written(self, graph: ExportedGraph) -> ExportedGraph:
        """Return the graph in this precision; it is made beside the original, once."""
        made = beside(graph, self.precision)
        if not made.path.is_file():
            columns = tuple(replace(column, precision=self.precision) for column in graph.metadata.columns)
            model = self.model(graph)
            write_metadata(model, replace(graph.metadata, columns=columns, float32_until=self.float32_until))
            made.write_certificate(replace(graph.certificate, precision=self.precision))
            write_file(made.path, model.SerializeToString())
        return made


def beside(graph: ExportedGraph, precision: str) -> ExportedGraph:
    """Return where a graph in a precision is kept; float32 is the original."""
    if precision == "fp32":
        return graph
    return ExportedGraph(graph.path.with_name(f"{graph.path.stem}-{precision.replace(':', '-')}.onnx"), graph.inputs)


def graph_in(graph: ExportedGraph, precision: str) -> ExportedGraph:
    """Return a graph in a precision that needs no items.

    Parameters
    ----------
    graph : ExportedGraph
        As it was exported, in fp32.
    precision : {"fp32", "bf16", "fp16"}

    Raises
    ------
    InputError
        If the precision depends on items.
    """
    if precision == "fp32":
        return graph
    if is_found_on_items(precision):
        raise InputError(f"precision {precision} is found on items: call fit with some, or use a store that has it")
    return Lowering(precision).written(graph)


def given_in(graph: ExportedGraph, precision: str) -> ExportedGraph:
    """Return a graph that was given, whose precision is what it is.

    Raises
    ------
    InputError
        If another one is asked for.
    """
    own = graph.metadata.precision
    if precision not in ("auto", own, parse_family(own)):
        raise InputError(f"this graph computes in {own}, not in {precision}; another precision needs the backbone")
    return graph
