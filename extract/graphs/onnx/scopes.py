"""The modules that an ONNX file's operations came from: exporters of PyTorch record their names.

The dynamo exporter writes them as metadata, the TorchScript exporter into the names of the operations. A module's
output is then the one live value that is computed inside it and used outside it, as in a traced PyTorch module.
Where an exporter has merged operations of several modules, a name stands for what the file computes there.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

from .value_graph import OnnxGraph, Value

SCOPES_KEY = "pkg.torch.onnx.name_scopes"
NO_MODULE = "_empty_nn_module_stack"
MERGED_WEIGHT_PREFIX = "onnx::Conv_"
"""Start of the name that TorchScript gives the weights of a convolution merged with the normalisation behind it."""
MERGED_OPERATIONS = ("Conv", "ConvTranspose", "Gemm")
WEIGHT_SUFFIX = ".weight"

ModulePath = tuple[str, ...]
"""Names of nested modules, outermost first."""


def find_module_outputs(graph: OnnxGraph) -> dict[str, Value]:
    """Return the only output of each module call, in order of execution, inner modules first.

    A second call of a module is called ``name@2`` where other operations ran in between.
    """
    outputs: dict[str, Value] = {}
    for call, values in group_by_call(graph).items():
        leaving = find_leaving_values(graph, values)
        if len(leaving) == 1 and not is_merged_convolution(leaving[0], call):
            outputs[call] = leaving[0]
    for module in find_truncated_modules(graph):
        outputs.pop(module, None)
    order = {value: position for position, value in enumerate(graph.live)}
    return dict(sorted(outputs.items(), key=lambda pair: (order[pair[1]], -pair[0].count("."))))


def find_leaving_values(graph: OnnxGraph, values: Sequence[Value]) -> list[Value]:
    """Return the values that something outside uses, or the model returns."""
    members = set(values)
    leaving = []
    for value in values:
        is_used_outside = any(reader not in members for reader in graph.readers[value])
        if is_used_outside or value in graph.outputs:
            leaving.append(value)
    return leaving


def is_merged_convolution(value: Value, call: str) -> bool:
    """Return whether a convolution of TorchScript's yields what a later module yielded in the original.

    That module was the convolution's neighbour, so the outputs of the two modules around the convolution are unknown.
    """
    if value.operation != "Conv" or not value.node.input[1].startswith(MERGED_WEIGHT_PREFIX):
        return False
    module, _, _ = call.partition("@")
    path = read_path(value.node) or ()
    return module in path[-2:]


def find_truncated_modules(graph: OnnxGraph) -> set[str]:
    """Return the modules whose last operation is recorded for a later module: dynamo merges into a normalisation."""
    truncated: set[str] = set()
    for value in graph.live:
        if value.operation not in MERGED_OPERATIONS:
            continue
        weight = value.node.input[1]
        path = read_path(value.node)
        if not path or not weight.endswith(WEIGHT_SUFFIX):
            continue
        names = weight.removesuffix(WEIGHT_SUFFIX).split(".")
        owners = accumulate(names, "{}.{}".format)  # "layer1", "layer1.0", "layer1.0.conv1"
        truncated.update(owner for owner in owners if owner not in path)
    return truncated


def group_by_call(graph: OnnxGraph) -> dict[str, list[Value]]:
    """Return the live values that each module call computed."""
    values_of_calls: dict[str, list[Value]] = {}
    for module, runs in find_runs(graph).items():
        if are_repetitions(runs):
            calls = runs
        else:  # one call, whose operations stand apart in the file
            calls = [list(chain.from_iterable(runs))]
        for number, values in enumerate(calls, start=1):
            call = module if number == 1 else f"{module}@{number}"
            values_of_calls[call] = values
    return {number_call(graph, call, values_of_calls): values for call, values in values_of_calls.items()}


def find_runs(graph: OnnxGraph) -> dict[str, list[list[Value]]]:
    """Return the live values that each module computed, in runs between which other modules did."""
    computed = graph.live[1:]  # the first one is the input
    runs_of_modules: dict[str, list[list[Value]]] = {}
    previous: ModulePath = ()
    for value, path in zip(computed, list_module_paths(computed), strict=True):
        for module in path:
            runs = runs_of_modules.setdefault(module, [])
            if module not in previous:
                runs.append([])
            runs[-1].append(value)
        previous = path
    return runs_of_modules


def number_call(graph: OnnxGraph, name: str, calls: Container[str]) -> str:
    """Return the name of a call: TorchScript's ``relu_1`` is the second one of ``relu``, unless it has weights."""
    module, _, number = name.rpartition("_")
    if not number.isdigit() or module not in calls:
        return name
    has_weights = any(value.startswith(f"{name}.") for value in graph.values)
    has_records = any(entry.key == SCOPES_KEY for node in graph.model.graph.node for entry in node.metadata_props)
    if has_weights or has_records:
        return name
    return f"{module}@{int(number) + 1}"


def are_repetitions(runs: list[list[Value]]) -> bool:
    """Return whether all runs consist of the same operations."""
    operations = [[value.operation for value in values] for values in runs]
    return all(one == other for one, other in pairwise(operations))


def list_module_paths(values: Sequence[Value]) -> list[ModulePath]:
    """Return the modules of each value; one without a record has those that its neighbours share."""
    recorded = [read_path(value.node) for value in values]
    paths: list[ModulePath] = []
    previous: ModulePath = ()
    for position, path in enumerate(recorded):
        if path is None:
            following = next((other for other in recorded[position:] if other is not None), ())
            path = tuple(module for module in previous if module in following)
        paths.append(path)
        previous = path
    return paths


def read_path(node: Any) -> ModulePath | None:
    """Return the modules in which an operation ran, None if there is no record."""
    if node.op_type.startswith("DynamicQuantize"):
        return None  # named after the value that it reads, though it belongs to the operation that reads it
    for entry in node.metadata_props:
        if entry.key == SCOPES_KEY:
            names = ast.literal_eval(entry.value)[:-1]  # the last one is the operation
            return tuple(name for name in names if name and not name.startswith(NO_MODULE))
    if node.name.startswith("/"):
        return parse_node_name(node.name)
    return None


def parse_node_name(name: str) -> ModulePath:
    """Return the modules in a name such as ``/layer1/layer1.0/conv1/Conv``.

    A part is the module's name in its parent, with the parent's own name before it if that is a ``Sequential``.
    """
    path: list[str] = []
    parent_part = ""
    for part in name.strip("/").split("/")[:-1]:
        if parent_part and part.startswith(parent_part + "."):
            full_name = path[-1] + part.removeprefix(parent_part)
        elif path:
            full_name = f"{path[-1]}.{part}"
        else:
            full_name = part
        path.append(full_name)
        parent_part = part
    return tuple(path)
