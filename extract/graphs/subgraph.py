"""A graph with fewer outputs: what the others needed is gone from the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...atomic import write_file
from .exported_graph import INPUTS_FOLDER, ExportedGraph, write_inputs, write_metadata
from .onnx.value_graph import pruned


def select_columns(graph: ExportedGraph, names: Sequence[str], path: Path) -> ExportedGraph:
    """Write a graph that computes only some of the columns, with its certificate and tokeniser.

    Parameters
    ----------
    graph : ExportedGraph
    names : sequence of str
        Names of columns, in the order of the new graph's outputs.
    path : Path
        File to write.

    Returns
    -------
    ExportedGraph
        The new file.
    """
    import onnx

    model = onnx.load(graph.path)
    columns = {column.name: column for column in graph.metadata.columns}
    outputs = {output.name: output for output in model.graph.output}
    kept = pruned(model.graph, names)
    kept.name = model.graph.name
    kept.input.extend(model.graph.input)
    kept.output.extend(outputs[name] for name in names)
    model.graph.CopyFrom(kept)
    write_metadata(model, replace(graph.metadata, columns=tuple(columns[name] for name in names)))
    deviations = tuple(d for d in graph.certificate.deviations if d.output in names)
    ports = tuple(next(port for port in graph.certificate.outputs if port.name == name) for name in names)
    certificate = replace(graph.certificate, deviations=deviations, outputs=ports)
    write_file(path, model.SerializeToString())
    selected = ExportedGraph(path)
    write_inputs(graph.input_spec, path.parent / INPUTS_FOLDER)
    selected.write_certificate(certificate)
    return selected
