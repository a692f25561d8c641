"""Trace a network once into a functional graph, and find the value that each named module yields.

``torch.export`` records with every operation the modules it ran in. A module's output is then the one tensor that
is computed inside it and used outside it; nothing is guessed from the list of its children. In-place operations are
made functional first, or a cut behind a BatchNorm would see what the ReLU after it has overwritten.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ExportError, LayerError, reason
from .flow import EXAMPLE_BATCH, live_nodes

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from ..models.backbone import Backbone

LAST = "last"
RESHAPES = ("aten.view.default", "aten.squeeze.dim", "aten.squeeze.dims")
LINEAR = ("aten.linear.default", "aten.addmm.default", "aten.conv2d.default")


@dataclass(frozen=True)
class Trace:
    """A network as a functional graph.

    Parameters
    ----------
    module : torch.fx.GraphModule
        Takes the normalised float32 image ``(batch, 3, height, width)``.
    live : list
        The nodes whose value depends on the image, in order.
    values : dict
        For each module call, in order of execution, the node of its only output; ``""`` is the network's own output.
        A second call of a module is called ``name@2``.
    entries : dict
        For each module call, the node of the activation that enters it.
    """

    module: GraphModule
    live: list[Node]
    values: dict[str, Node]
    entries: dict[str, Node]


def trace(backbone: Backbone) -> Trace:
    """Trace a backbone with a free batch size.

    Raises
    ------
    ExportError
        If ``torch.export`` cannot follow the network.
    """
    module = _functional_graph(backbone)
    live = live_nodes(module)
    inside: dict[str, list[Node]] = {}
    for node in live:
        for call in calls(node):
            inside.setdefault(call, []).append(node)
    exits = {call: _exit(nodes) for call, nodes in inside.items() if call}
    values = {call: node for call, node in exits.items() if node is not None and _is_batch_of_features(node)}
    output: Any = module.graph.output_node().args[0]
    output = output[0] if isinstance(output, (tuple, list)) else output
    entries = {call: _entry(call, nodes, live) for call, nodes in inside.items() if call}
    order = {node: position for position, node in enumerate(module.graph.nodes)}
    values = dict(sorted(values.items(), key=lambda pair: (order[pair[1]], -pair[0].count("."))))
    return Trace(module, live, {**values, "": output}, {k: v for k, v in entries.items() if v is not None})


def _functional_graph(backbone: Backbone) -> GraphModule:
    import torch

    height, width = backbone.input_spec.size
    example = torch.zeros(EXAMPLE_BATCH, 3, height, width)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(backbone.module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
            module = program.run_decompositions({}).module()
    except Exception as error:
        raise ExportError(f"{backbone.name} cannot be traced by torch.export: {reason(error)}") from error
    assert isinstance(module, torch.fx.GraphModule)
    for node in list(module.graph.nodes):  # checks of the input come between us and it
        if node.op == "call_module" and not node.users:
            module.graph.erase_node(node)
    return module


def calls(node: Node) -> list[str]:
    """Return the module calls a node ran in, outermost first, each with its place in the order of calls."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    return [_call_name(key, path) for key, (path, _) in stack.items()]


def _call_name(key: str, path: str) -> str:
    """Count calls from one: torch's keys end in nothing for the first call and in ``@1`` for the second."""
    number = key.partition("@")[2]
    return f"{path}@{int(number) + 1}" if number else path


def _exit(nodes: list[Node]) -> Node | None:
    """Return the one tensor that leaves these nodes, None if there are none or several."""
    members = set(nodes)
    leaving = [n for n in nodes if any(user not in members for user in n.users)]
    return leaving[0] if len(leaving) == 1 else None


def _entry(call: str, nodes: list[Node], live: list[Node]) -> Node | None:
    """Return the first activation that enters these nodes.

    Making in-place operations functional may move a reshape from before a linear layer into it: its own operand counts.
    """
    members, alive = set(nodes), set(live)
    first = next((node for node in nodes if str(node.target) not in RESHAPES), nodes[0])
    if str(first.target) in LINEAR and calls(first)[-1] == call:
        members = {first}
    for node in (n for n in nodes if n in members):
        for source in node.all_input_nodes:
            if source in alive and source not in members:
                return source
    return None


def _is_batch_of_features(node: Node) -> bool:
    """Tell whether a value is float, has the free batch size first and fixed sizes behind it."""
    value = node.meta["val"]
    batch, *rest = value.shape or (0,)
    return (
        value.is_floating_point()
        and not isinstance(batch, int)
        and bool(rest)
        and all(isinstance(n, int) for n in rest)
        and str(batch).isidentifier()
    )


def node_of(traced: Trace, backbone: Backbone, layer: str) -> Node:
    """Return the node that a layer's name stands for; ``last`` is what feeds the network's own classifier.

    Raises
    ------
    LayerError
        If the network has no such layer; near names are listed.
    """
    if layer == LAST:
        return _last(traced, backbone)
    if layer in traced.values and layer:
        return traced.values[layer]
    import difflib

    near = difflib.get_close_matches(layer, list(traced.values), n=4, cutoff=0.4) or list(traced.values)[-5:-1]
    raise LayerError(
        f"{backbone.name} has no layer {layer!r} that can be cut; close: {', '.join(near)}. "
        "`topwork layers` lists them all."
    )


def _last(traced: Trace, backbone: Backbone) -> Node:
    classifier = classifier_of(traced, backbone)
    return traced.entries[classifier] if classifier else traced.values[""]


def classifier_of(traced: Trace, backbone: Backbone) -> str:
    """Return the name of the network's own classifier, "" if its output is its features."""
    if backbone.classifier is not None:
        return backbone.classifier if backbone.classifier in traced.entries else ""
    return _output_module(traced)


def _output_module(traced: Trace) -> str:
    """Return the linear layer or convolution that yields the network's output, "" if something else does."""
    node = traced.values[""]
    while str(node.target) in RESHAPES:
        node = node.all_input_nodes[0]
    return calls(node)[-1] if str(node.target) in LINEAR and calls(node) else ""
