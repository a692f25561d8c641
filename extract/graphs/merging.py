"""One graph from two of the same network: what both compute is computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...atomic import write_file
from ...errors import ExportError
from .exported_graph import ExportedGraph, write_metadata
from .onnx.value_graph import subgraphs


def merge(first: ExportedGraph, second: ExportedGraph, path: Path) -> ExportedGraph:
    """Write a graph with the columns of two, with its certificate.

    Values are numbered by what computes them: operations with the same attributes on the same values yield the same
    values (Cocke and Schwartz, "Programming Languages and Their Compilers", 1970).

    Parameters
    ----------
    first, second : ExportedGraph
        Of one backbone, in one precision, without a column of the same name.
    path : Path
        File to write.

    Raises
    ------
    ExportError
        If they were exported for different versions of the operators.
    """
    import onnx

    model, other = onnx.load(first.path), onnx.load(second.path)
    _join_versions(model, other)
    merged = _Merged({output.name for graph in (model.graph, other.graph) for output in graph.output})
    for graph in (model.graph, other.graph):
        merged.add(graph)
    model.graph.CopyFrom(merged.graph)
    columns = (*first.metadata.columns, *second.metadata.columns)
    write_metadata(model, replace(first.metadata, columns=columns))
    write_file(path, model.SerializeToString())
    ours, theirs = first.certificate, second.certificate
    both: dict[str, Any] = {
        name: (*getattr(ours, name), *getattr(theirs, name)) for name in ("outputs", "deviations", "fidelity")
    }
    joined = ExportedGraph(path, first.inputs)
    joined.write_certificate(replace(ours, **both, independence=max(ours.independence, theirs.independence)))
    return joined


def _join_versions(model: Any, other: Any) -> None:
    """Let a model know the operators and functions of another."""
    known = {imported.domain: imported.version for imported in model.opset_import}
    for imported in other.opset_import:
        if known.setdefault(imported.domain, imported.version) != imported.version:
            raise ExportError(
                f"the graphs use operators of versions {known[imported.domain]} and {imported.version}: other versions "
                "of torch or onnx exported them. Make a store of its own for the new column."
            )
    del model.opset_import[:]
    for domain, version in known.items():
        model.opset_import.add(domain=domain, version=version)
    there = {(function.domain, function.name) for function in model.functions}
    model.functions.extend(f for f in other.functions if (f.domain, f.name) not in there)


class _Merged:
    """A graph that grows; names of outputs are reserved for them."""

    def __init__(self, reserved: set[str]) -> None:
        import onnx

        self.graph = onnx.GraphProto(name="merged")
        self.reserved = reserved
        self.values: dict[Hashable, str] = {}
        """Names of values by what computes them."""
        self.taken = set(reserved)

    def add(self, graph: Any) -> None:
        """Add all that a graph computes."""
        names = {"": "", **{port.name: port.name for port in graph.input}}
        self._add_inputs(graph)
        for tensor in graph.initializer:
            names[tensor.name] = self._weight(tensor)
        if graph.sparse_initializer:
            raise ExportError("a graph with sparse weights cannot be merged. Make a store of its own for the column.")
        for node in graph.node:
            self._add_node(node, names)
        for output in graph.output:
            self.graph.node.add(op_type="Identity", input=[names[output.name]], output=[output.name])
            self.graph.output.append(output)

    def _add_inputs(self, graph: Any) -> None:
        there = {port.name for port in self.graph.input}
        self.graph.input.extend(port for port in graph.input if port.name not in there)
        self.taken.update(port.name for port in graph.input)

    def _weight(self, tensor: Any) -> str:
        """Return the name of a weight, which is added unless it is there."""
        import onnx

        plain = onnx.TensorProto()
        plain.CopyFrom(tensor)
        plain.name = plain.doc_string = ""
        key = "weight", hashlib.sha256(plain.SerializeToString(deterministic=True)).digest()
        if key not in self.values:
            plain.name = self.values[key] = self._free(tensor.name)
            self.graph.initializer.append(plain)
        return self.values[key]

    def _add_node(self, node: Any, names: dict[str, str]) -> None:
        """Add an operation, unless one like it is there, and enter the names of its results."""
        inputs, nested = [names[name] for name in node.input], list(subgraphs(node))
        attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
        key = node.domain, node.op_type, tuple(inputs), tuple(attributes), tuple(map(bool, node.output))
        if nested or (key, 0) not in self.values:
            self._copy(node, inputs, names, key)
        else:
            names.update((name, self.values[key, place]) for place, name in enumerate(node.output) if name)

    def _copy(self, node: Any, inputs: list[str], names: dict[str, str], key: Hashable) -> None:
        added = self.graph.node.add()
        added.CopyFrom(node)
        added.ClearField("metadata_props")
        added.doc_string = ""
        for nested in subgraphs(added):
            _rename(nested, names)
        outputs = [self._free(name) if name else "" for name in node.output]
        added.input[:], added.output[:] = inputs, outputs
        added.name = f"node_{len(self.graph.node)}"
        for place, (name, new) in enumerate(zip(node.output, outputs, strict=True)):
            names[name] = self.values[key, place] = new

    def _free(self, name: str) -> str:
        """Return a name that no other value has."""
        free, number = name, 1
        while free in self.taken:
            number += 1
            free = f"{name}_{number}"
        self.taken.add(free)
        return free


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Let a graph inside of an operation read the values of the outer one under their new names."""
    own = {name for node in graph.node for name in node.output} | {port.name for port in graph.input}
    own |= {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        node.input[:] = [name if name in own else names.get(name, name) for name in node.input]
        for nested in subgraphs(node):
            _rename(nested, {name: new for name, new in names.items() if name not in own})
