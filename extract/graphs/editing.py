"""Edit exported graphs: keep some of the columns, or merge two graphs of one model."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ExportError
from .canaries import write_canaries
from .certificate import Certificate
from .exported_graph import INPUTS_FOLDER, ExportedGraph, write_inputs
from .graph_metadata import write_metadata
from .model_file import is_outside, load_model, read_bytes, save_model
from .onnx.value_graph import list_subgraphs, prune


def select_columns(graph: ExportedGraph, names: Sequence[str], path: Path) -> ExportedGraph:
    """Write a graph that computes only some columns, in this order, with its certificate and tokeniser.

    What only the other columns need is not in the file.
    """
    # Keep what the columns need.
    model = load_model(graph.path)
    outputs = {output.name: output for output in model.graph.output}
    kept = prune(model.graph, names)
    kept.name = model.graph.name
    kept.input.extend(model.graph.input)
    kept.output.extend(outputs[name] for name in names)
    model.graph.CopyFrom(kept)

    # Describe them.
    columns = {column.name: column for column in graph.metadata.columns}
    write_metadata(model, replace(graph.metadata, columns=tuple(columns[name] for name in names)))

    # Write the files.
    save_model(model, path)
    selected = ExportedGraph(path)
    write_inputs(graph.input_spec, path.parent / INPUTS_FOLDER)
    selected.write_certificate(select_outputs(graph.certificate, names))
    if graph.canaries is not None:
        graph.canaries.select(names, selected.canaries_path)
    return selected


def select_outputs(certificate: Certificate, names: Sequence[str]) -> Certificate:
    """Return the evidence for some of the outputs, in this order."""
    ports = {port.name: port for port in certificate.outputs}
    return replace(
        certificate,
        outputs=tuple(ports[name] for name in names),
        deviations=tuple(deviation for deviation in certificate.deviations if deviation.output in names),
    )


def merge_graphs(first: ExportedGraph, second: ExportedGraph, path: Path) -> ExportedGraph:
    """Write a graph with the columns of two, with its certificate; what both compute is computed once.

    Both are graphs of one backbone, in one precision, without a column of the same name; an ExportError is raised if
    they were exported for different versions of the operators. Values are numbered by what computes them: operations
    with the same attributes on the same values yield the same values (Cocke and Schwartz, "Programming Languages and
    Their Compilers", 1970).
    """
    # Merge what they compute.
    model = load_model(first.path)
    other = load_model(second.path)
    add_operators(model, other)
    reserved = {output.name for graph in (model.graph, other.graph) for output in graph.output}
    merged = MergedGraph(reserved)
    merged.add(model.graph)
    merged.add(other.graph)
    model.graph.CopyFrom(merged.graph)

    # Describe the columns, and write the files.
    columns = (*first.metadata.columns, *second.metadata.columns)
    write_metadata(model, replace(first.metadata, columns=columns))
    save_model(model, path)
    joined = ExportedGraph(path, first.inputs_folder)
    joined.write_certificate(join_certificates(first.certificate, second.certificate))
    merge_canaries(first, second, joined.canaries_path)
    return joined


def join_certificates(first: Certificate, second: Certificate) -> Certificate:
    """Return the evidence for the outputs of two graphs."""
    return replace(
        first,
        outputs=(*first.outputs, *second.outputs),
        deviations=(*first.deviations, *second.deviations),
        fidelity=(*first.fidelity, *second.fidelity),
        measurements=(*first.measurements, *second.measurements),
        independence=max(first.independence, second.independence),
    )


def merge_canaries(first: ExportedGraph, second: ExportedGraph, path: Path) -> None:
    """Write the canaries of both graphs, if both have those of the model for the same items."""
    if first.canaries is None or second.canaries is None:
        return
    reference = {**first.canaries.reference, **second.canaries.reference}
    n_columns = len(first.metadata.columns) + len(second.metadata.columns)
    pairs = zip(first.canaries.items, second.canaries.items, strict=False)
    if len(reference) == n_columns and all(np.array_equal(one, other) for one, other in pairs):
        write_canaries(path, first.canaries.items, reference=reference)


def add_operators(model: Any, other: Any) -> None:
    """Add the operator sets and functions of another model."""
    versions = {imported.domain: imported.version for imported in model.opset_import}
    for imported in other.opset_import:
        version = versions.setdefault(imported.domain, imported.version)
        if version != imported.version:
            raise ExportError(
                f"the graphs use operators of versions {version} and {imported.version}: other versions of torch or "
                "onnx exported them. Make a store of its own for the new column."
            )
    del model.opset_import[:]
    for domain, version in versions.items():
        model.opset_import.add(domain=domain, version=version)
    known = {(function.domain, function.name) for function in model.functions}
    for function in other.functions:
        if (function.domain, function.name) not in known:
            model.functions.append(function)


class MergedGraph:
    """A graph to which others are added; no value but an output may have one of the reserved names."""

    def __init__(self, reserved: set[str]) -> None:
        import onnx

        self.graph = onnx.GraphProto(name="merged")
        self.names_by_key: dict[Hashable, str] = {}
        """Names of values by what computes them."""
        self.taken = set(reserved)
        """Names that are in use."""

    def add(self, graph: Any) -> None:
        """Add all that a graph computes."""
        if graph.sparse_initializer:
            raise ExportError("a graph with sparse weights cannot be merged. Make a store of its own for the column.")
        known = {port.name for port in self.graph.input}
        new_names = {"": ""}
        for port in graph.input:
            new_names[port.name] = port.name
            self.taken.add(port.name)
            if port.name not in known:
                self.graph.input.append(port)
        for tensor in graph.initializer:
            new_names[tensor.name] = self.add_weight(tensor)
        for node in graph.node:
            self.add_node(node, new_names)
        for output in graph.output:
            self.graph.node.add(op_type="Identity", input=[new_names[output.name]], output=[output.name])
            self.graph.output.append(output)

    def add_weight(self, tensor: Any) -> str:
        """Add a weight unless the graph has one with the same content, and return its name."""
        import onnx

        nameless = onnx.TensorProto()
        nameless.CopyFrom(tensor)
        nameless.name = ""
        nameless.doc_string = ""
        key = "weight", digest_weight(nameless)
        if key not in self.names_by_key:
            name = self.find_free_name(tensor.name)
            self.names_by_key[key] = name
            nameless.name = name
            self.graph.initializer.append(nameless)
        return self.names_by_key[key]

    def add_node(self, node: Any, new_names: dict[str, str]) -> None:
        """Add an operation unless the graph has an equal one, and enter the names of its results."""
        inputs = tuple(new_names[name] for name in node.input)
        attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
        has_output = tuple(name != "" for name in node.output)
        key = node.domain, node.op_type, inputs, tuple(attributes), has_output
        has_subgraphs = any(list_subgraphs(node))
        if has_subgraphs or (key, 0) not in self.names_by_key:
            self.copy_node(node, new_names, key)
            return
        for place, name in enumerate(node.output):
            if name:
                new_names[name] = self.names_by_key[key, place]

    def copy_node(self, node: Any, new_names: dict[str, str], key: Hashable) -> None:
        """Add a copy of an operation under free names, and enter the names of its results."""
        copied = self.graph.node.add()
        copied.CopyFrom(node)
        copied.ClearField("metadata_props")
        copied.doc_string = ""
        copied.name = f"node_{len(self.graph.node)}"
        for subgraph in list_subgraphs(copied):
            _rename_outer_values(subgraph, new_names)
        copied.input[:] = [new_names[name] for name in node.input]
        for place, name in enumerate(node.output):
            new_name = self.find_free_name(name) if name else ""
            copied.output[place] = new_name
            new_names[name] = new_name
            self.names_by_key[key, place] = new_name

    def find_free_name(self, name: str) -> str:
        """Return a name that no other value has."""
        free = name
        number = 1
        while free in self.taken:
            number += 1
            free = f"{name}_{number}"
        self.taken.add(free)
        return free


def digest_weight(tensor: Any) -> bytes:
    """Return the SHA-256 of the content of a nameless ``onnx.TensorProto``, the same inside and outside of the file."""
    if is_outside(tensor) or tensor.HasField("raw_data"):
        whole = hashlib.sha256(f"{tensor.data_type} {list(tensor.dims)}".encode())
        whole.update(read_bytes(tensor).data)
        return whole.digest()
    return hashlib.sha256(tensor.SerializeToString(deterministic=True)).digest()


def _rename_outer_values(graph: Any, new_names: dict[str, str]) -> None:
    """Rename the values that a graph inside an operation reads from the graph around it."""
    own = {name for node in graph.node for name in node.output}
    own.update(port.name for port in graph.input)
    own.update(tensor.name for tensor in graph.initializer)
    outer = {name: new for name, new in new_names.items() if name not in own}
    for node in graph.node:
        node.input[:] = [outer.get(name, name) for name in node.input]
        for subgraph in list_subgraphs(node):
            _rename_outer_values(subgraph, outer)
