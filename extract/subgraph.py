"""A graph with fewer outputs: what the others needed is gone from the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .atomic import write_file
from .graph import INPUTS_FOLDER, METADATA_KEY, ExportedGraph, write_inputs
from .onnx_graphs.graph import names_read


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
    del model.graph.output[:]
    model.graph.output.extend(outputs[name] for name in names)
    _drop_unused(model.graph)
    text = replace(graph.metadata, columns=tuple(columns[name] for name in names)).to_text()
    next(entry for entry in model.metadata_props if entry.key == METADATA_KEY).value = text
    deviations = tuple(d for d in graph.certificate.deviations if d.output in names)
    ports = tuple(next(port for port in graph.certificate.outputs if port.name == name) for name in names)
    kept = replace(graph.certificate, deviations=deviations, outputs=ports)
    write_file(path, model.SerializeToString())
    selected = ExportedGraph(path)
    write_inputs(graph, path.parent / INPUTS_FOLDER)
    write_file(selected.certificate_path, json.dumps(kept.to_json(), indent=1).encode())
    return selected


def _drop_unused(graph: Any) -> None:
    """Remove nodes and constants that no output depends on; nodes are in topological order."""
    needed = {output.name for output in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(names_read(node))
            nodes.append(node)
    constants = [constant for constant in graph.initializer if constant.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(constants)
