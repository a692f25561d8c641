"""Graphs in lower precision, written next to their originals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ...errors import InputError
from ...identity import digest
from ..graphs.cache_entry import is_intact, seal_graph
from ..graphs.exported_graph import ExportedGraph
from ..graphs.graph_metadata import write_metadata
from ..graphs.model_file import load_model, save_model
from ..runtime.providers import is_found_on_items, parse_family
from .block_products import Activations, quantize_products
from .int8 import Calibration, quantize


@dataclass(frozen=True)
class Lowering:
    """A way to compute a graph in a lower precision.

    For bf16 only the metadata of the file differs: the provider rounds as it computes. The operations `kept` stay in
    float32; for bf16 it is one value, and everything that it is computed from stays in float32. Only int8 has a
    calibration, for sums of 8-bit numbers, or what is known of activations, for products in blocks.
    """

    family: str
    kept: tuple[str, ...] = ()
    calibration: Calibration | None = None
    activations: Activations | None = None

    @property
    def precision(self) -> str:
        """The precision of a column: the family, with a digest where the family does not determine the features."""
        found = self.calibration or self.activations
        if not self.kept and found is None:
            return self.family
        return f"{self.family}:{digest([self.kept, None if found is None else found.facts])[:8]}"

    @property
    def float32_until(self) -> str:
        """Value before which everything is computed in float32, as in the metadata of a graph; "" for none."""
        if self.family == "bf16" and self.kept:
            return self.kept[0]
        return ""

    def make_model(self, graph: ExportedGraph) -> Any:
        """Return the graph's ``onnx.ModelProto`` in this precision."""
        if self.calibration is not None:
            return quantize(self.calibration, self.kept)
        if self.activations is not None:
            return quantize_products(load_model(graph.path), self.activations, self.kept)
        model = load_model(graph.path)
        if self.family == "fp16":
            from onnxruntime.transformers.float16 import convert_float_to_float16

            return convert_float_to_float16(model, keep_io_types=True, node_block_list=list(self.kept))
        return model

    def write(self, graph: ExportedGraph) -> ExportedGraph:
        """Return the graph in this precision; it is written next to the original, once."""
        lowered = locate_lowered_graph(graph, self.precision)
        if is_intact(lowered):
            return lowered
        columns = tuple(replace(column, precision=self.precision) for column in graph.metadata.columns)
        check_size(graph, self.family)
        model = self.make_model(graph)
        write_metadata(model, replace(graph.metadata, columns=columns, float32_until=self.float32_until))
        lowered.write_certificate(replace(graph.certificate, precision=self.precision))
        if graph.canaries is not None:
            graph.canaries.select([column.name for column in columns], lowered.canaries_path)
        save_model(model, lowered.path)
        seal_graph(lowered, entry=lowered.path.parent.name)
        return lowered


def locate_lowered_graph(graph: ExportedGraph, precision: str) -> ExportedGraph:
    """Return where a graph in a precision is written; float32 is the original."""
    if precision == "fp32":
        return graph
    suffix = precision.replace(":", "-")
    return ExportedGraph(graph.path.with_name(f"{graph.path.stem}-{suffix}.onnx"), graph.inputs)


def lower_graph(graph: ExportedGraph, precision: str) -> ExportedGraph:
    """Return a graph, exported in fp32, in a precision that can be made without items; an InputError for others."""
    if precision == "fp32":
        return graph
    if is_found_on_items(precision):
        raise InputError(
            f"precision {precision} is found on items: call fit with some items, or use a store that has it"
        )
    return Lowering(precision).write(graph)


def check_size(graph: ExportedGraph, family: str) -> None:
    """Raise an InputError if a large graph would have to be converted, which needs it whole in one message."""
    if not is_convertible(graph, family):
        raise InputError(
            f"precision {family!r}: a graph is converted to it in one message, which holds at most 2 GiB; the weights "
            f"of this one are larger, and kept in {graph.weights_path}. Use precision 'fp32' or 'bf16'."
        )


def is_convertible(graph: ExportedGraph, family: str) -> bool:
    """Return whether a graph can be brought into a precision: for fp16 and int8 a large one cannot."""
    return family in ("fp32", "bf16") or graph.weights_path is None


def check_own_precision(graph: ExportedGraph, precision: str) -> None:
    """Raise an InputError if a graph that was exported before is not in the precision asked for.

    ``"auto"`` accepts every graph, a family each of its precisions.
    """
    own = graph.metadata.precision
    if precision not in ("auto", own, parse_family(own)):
        raise InputError(f"this graph computes in {own}, not in {precision}; another precision needs the backbone")
