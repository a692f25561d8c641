"""Which modules an ONNX file's operations came from: exporters of PyTorch record their names.

The dynamo exporter writes them as metadata, the TorchScript exporter into the names of the operations. A module's
output is then the one live value that is computed inside it and used outside it, as in a traced PyTorch network.
Where an exporter has merged operations of several modules, a name stands for what the file computes there.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Sequence
from itertools import pairwise
from typing import Any

from .value_graph import OnnxGraph, Value

SCOPES = "pkg.torch.onnx.name_scopes"
NO_MODULE = "_empty_nn_module_stack"
FUSED = "onnx::Conv_"
"""How TorchScript calls the weights of a convolution that it has merged with the normalisation behind it."""
MERGED = ("Conv", "ConvTranspose", "Gemm")
WEIGHT = ".weight"

Path = tuple[str, ...]


def module_outputs(graph: OnnxGraph) -> dict[str, Value]:
    """Return the only output of each module call, in order of execution, inner modules first.

    A second call of a module is called ``name@2`` where other operations ran in between.
    """
    order = {value: position for position, value in enumerate(graph.live)}
    outputs: dict[str, Value] = {}
    for name, values in _calls(graph).items():
        leaving = _leaving(graph, values)
        if len(leaving) == 1 and not _is_merged_convolution(leaving[0], name):
            outputs[name] = leaving[0]
    for name in _without_their_end(graph):
        outputs.pop(name, None)
    return dict(sorted(outputs.items(), key=lambda pair: (order[pair[1]], -pair[0].count("."))))


def _leaving(graph: OnnxGraph, values: Sequence[Value]) -> list[Value]:
    """Return the values that something outside uses, or the network returns."""
    members, returned = set(values), graph.outputs
    return [
        value for value in values if value in returned or any(reader not in members for reader in graph.readers[value])
    ]


def _is_merged_convolution(value: Value, call: str) -> bool:
    """Tell whether a convolution of TorchScript's yields what a later module yielded in the original.

    That module was the convolution's neighbour, so what the two modules around the convolution yield cannot be told.
    """
    if value.operation != "Conv" or not value.node.input[1].startswith(FUSED):
        return False
    return call.partition("@")[0] in (_path(value.node) or ())[-2:]


def _without_their_end(graph: OnnxGraph) -> set[str]:
    """Return the modules whose last operation is recorded for a later module: dynamo merges into a normalisation."""
    modules = set()
    for value in graph.live:
        if value.operation in MERGED and value.node.input[1].endswith(WEIGHT):
            names = value.node.input[1].removesuffix(WEIGHT).split(".")
            owners = {".".join(names[:count]) for count in range(1, len(names) + 1)}
            modules |= owners - set(_path(value.node) or owners)
    return modules


def _calls(graph: OnnxGraph) -> dict[str, list[Value]]:
    """Return the live values that each module call computed."""
    runs: dict[str, list[list[Value]]] = {}
    before: Path = ()
    for value, path in zip(graph.live[1:], _paths(graph.live[1:]), strict=True):
        for module in path:
            if module not in before:
                runs.setdefault(module, []).append([])
            runs[module][-1].append(value)
        before = path
    calls: dict[str, list[Value]] = {}
    for module, parts in runs.items():
        if _are_repetitions(parts):
            calls.update((module if i == 0 else f"{module}@{i + 1}", part) for i, part in enumerate(parts))
        else:  # one call, whose operations stand apart in the file
            calls[module] = [value for part in parts for value in part]
    return {_call_name(graph, name, calls): values for name, values in calls.items()}


def _call_name(graph: OnnxGraph, name: str, calls: Container[str]) -> str:
    """Return the name of a call: TorchScript's ``relu_1`` is the second one of ``relu``, unless it has weights."""
    module, _, number = name.rpartition("_")
    if not number.isdigit() or module not in calls:
        return name
    is_module = any(weight.startswith(f"{name}.") for weight in graph.values)
    recorded = any(entry.key == SCOPES for node in graph.model.graph.node for entry in node.metadata_props)
    return name if is_module or recorded else f"{module}@{int(number) + 1}"


def _are_repetitions(parts: list[list[Value]]) -> bool:
    operations = [[value.operation for value in part] for part in parts]
    return all(one == other for one, other in pairwise(operations))


def _paths(values: Sequence[Value]) -> list[Path]:
    """Return the modules of each value, outermost first; one without a record has those that its neighbours share."""
    known = [_path(value.node) for value in values]
    paths: list[Path] = []
    for position, path in enumerate(known):
        if path is None:
            after = next((p for p in known[position:] if p is not None), ())
            path = tuple(module for module in (paths[-1] if paths else ()) if module in after)
        paths.append(path)
    return paths


def _path(node: Any) -> Path | None:
    """Return the modules in which an operation ran, None if there is no record."""
    recorded = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), None)
    if recorded is not None:
        names = ast.literal_eval(recorded)[:-1]  # the last one is the operation
        return tuple(name for name in names if name and not name.startswith(NO_MODULE))
    return _path_in_name(node.name) if node.name.startswith("/") else None


def _path_in_name(name: str) -> Path:
    """Return the modules in a name such as ``/layer1/layer1.0/conv1/Conv``.

    A part is the module's name in its parent, with the parent's own name before it if that is a ``Sequential``.
    """
    path: list[str] = []
    above, last = "", ""
    for part in name.strip("/").split("/")[:-1]:
        if last and part.startswith(last + "."):
            full = path[-1] + part.removeprefix(last)
        else:
            full = f"{above}.{part}" if above else part
        path.append(full)
        above, last = full, part
    return tuple(path)
