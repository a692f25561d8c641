"""Trace a network once into a functional graph, and find the value that each named module yields.

``torch.export`` records with every operation the modules it ran in. A module's output is then the one tensor that
is computed inside it and used outside it; nothing is guessed from the list of its children. In-place operations are
made functional first, or a cut behind a BatchNorm would see what the ReLU after it has overwritten.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....errors import ExportError, LayerError, TopworkError, reason
from ...preprocess.by_kind import example_feed
from ..layer import LAST
from ..routes import ORDINARY, Tracing, plain_attention
from .entry import dynamic_axes, network_inputs, tensors_of
from .flow import example_shape, live_nodes, tensor_of
from .module_calls import yielded_shapes

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import GraphModule, Node

    from ....models.torch_backbone import TorchBackbone

RESHAPES = ("aten.view.default", "aten.squeeze.dim", "aten.squeeze.dims")
SQUASHES = ("softmax", "sigmoid")
LINEAR = ("aten.linear.default", "aten.addmm.default", "aten.conv2d.default")


@dataclass(frozen=True)
class Trace:
    """A network as a functional graph.

    Parameters
    ----------
    backbone : TorchBackbone
    module : torch.fx.GraphModule
        Called as the network is.
    live : list
        The nodes whose value depends on the input, in order.
    values : dict
        For each module call, in order of execution, the node of its only output; ``""`` is the network's own output.
        A second call of a module is called ``name@2``.
    entries : dict
        For each module call, the node of the activation that enters it.
    """

    backbone: TorchBackbone
    module: GraphModule
    live: list[Node]
    values: dict[str, Node]
    entries: dict[str, Node]


def trace(backbone: TorchBackbone, tracing: Tracing = ORDINARY) -> Trace:
    """Trace a backbone with a free batch size, and for texts with any number of tokens; done once for each backbone.

    Raises
    ------
    ExportError
        If ``torch.export`` cannot follow the network.
    """
    if tracing not in backbone.traces:
        try:
            backbone.traces[tracing] = _traced(backbone, tracing)
        except TopworkError:
            raise
        except Exception as error:
            raise ExportError(f"{backbone.name} does not run on its own inputs: {reason(error)}") from error
    found: Trace = backbone.traces[tracing]
    return found


def _traced(backbone: TorchBackbone, tracing: Tracing) -> Trace:
    module = _functional_graph(backbone, tracing)
    live = live_nodes(module)
    inside: dict[str, list[Node]] = {}
    for node in live:
        for call in calls(node):
            inside.setdefault(call, []).append(node)
    sizes = tuple(map(str, live[0].meta["val"].shape))
    yielded = yielded_shapes(backbone, calls_in_order(module))
    exits = {call: _exit(nodes, yielded.get(call, ())) for call, nodes in inside.items() if call}
    values = {call: node for call, node in exits.items() if node is not None and _is_batch_of_features(node, sizes)}
    output: Any = module.graph.output_node().args[0]
    output = output[0] if isinstance(output, (tuple, list)) else output
    entries = {call: _entry(call, nodes, live) for call, nodes in inside.items() if call}
    order = {node: position for position, node in enumerate(module.graph.nodes)}
    values = dict(sorted(values.items(), key=lambda pair: (order[pair[1]], -pair[0].count("."))))
    return Trace(backbone, module, live, {**values, "": output}, {k: v for k, v in entries.items() if v is not None})


def _functional_graph(backbone: TorchBackbone, tracing: Tracing) -> GraphModule:
    import torch

    spec = backbone.input_spec
    inputs = network_inputs(spec, tensors_of(example_feed(spec)))
    arguments, named = backbone.arguments_of(inputs)
    axes = dynamic_axes(spec, len(inputs), tracing.inferred)
    shapes: Any = dict(zip(named, axes, strict=True)) if named else axes
    try:
        with warnings.catch_warnings(), torch.no_grad(), plain_attention(backbone.module, tracing.plain_attention):
            warnings.simplefilter("ignore")
            program = torch.export.export(
                backbone.module, arguments, named, dynamic_shapes=shapes, strict=tracing.strict
            )
            module = program.run_decompositions(_decompositions(tracing)).module()
    except Exception as error:
        raise ExportError(f"{backbone.name} cannot be traced by torch.export: {reason(error)}") from error
    assert isinstance(module, torch.fx.GraphModule)
    for node in list(module.graph.nodes):  # checks of the input come between us and it
        if node.op == "call_module" and not node.users:
            module.graph.erase_node(node)
    return module


def _decompositions(tracing: Tracing) -> dict[Any, Any]:
    """Return what operations are replaced by others; always that of a number minus a tensor of another type.

    torch 2.13's exporter rewrites ``1.0 - mask`` of an integer mask to an operation that does not exist.
    """
    import torch

    table = dict(torch.export.default_decompositions()) if tracing.decompose else {}
    return {**table, torch.ops.aten.rsub.Scalar: _number_minus_tensor}


def _number_minus_tensor(tensor: Tensor, number: float, alpha: float = 1) -> Tensor:
    return tensor * -alpha + number


def calls(node: Node) -> list[str]:
    """Return the module calls a node ran in, outermost first, each with its place in the order of calls."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    return [_call_name(key, path) for key, (path, _) in stack.items()]


def _call_name(key: str, path: str) -> str:
    """Count calls from one: torch's keys end in nothing for the first call and in ``@1`` for the second."""
    number = key.partition("@")[2]
    return f"{path}@{int(number) + 1}" if number else path


def calls_in_order(module: GraphModule) -> list[str]:
    """Return every module call of a traced graph, once."""
    return list(dict.fromkeys(call for node in module.graph.nodes for call in calls(node)))


def _exit(nodes: list[Node], shapes: Collection[tuple[int, ...]]) -> Node | None:
    """Return the one tensor that leaves these nodes and has a shape that the module yields, None if there is none.

    Making operations functional may move a reshape from a module's end behind it: then the last value of such a shape
    is taken.
    """
    members = set(nodes)
    leaving = [n for n in nodes if any(user not in members for user in n.users)]
    if len(leaving) != 1 or example_shape(leaving[0]) in shapes:
        return leaving[0] if len(leaving) == 1 else None
    return next((node for node in reversed(nodes) if example_shape(node) in shapes), None)


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


def _is_batch_of_features(node: Node, sizes: tuple[str, ...]) -> bool:
    """Tell whether a value is float and has the batch's free size first; behind it come the tokens, or fixed sizes.

    `sizes` are those of the input: of a text, the second one is the number of its tokens.
    """
    value = tensor_of(node)
    batch, *rest = value.shape or (0,)
    if len(rest) == 2 and len(sizes) > 1 and not isinstance(rest[0], int) and str(rest[0]) == sizes[1]:
        rest = rest[1:]
    return value.is_floating_point() and str(batch) == sizes[0] and bool(rest) and all(isinstance(n, int) for n in rest)


def node_of(traced: Trace, layer: str) -> Node:
    """Return the node that a layer's name stands for; ``last`` is what feeds the network's own classifier.

    Raises
    ------
    LayerError
        If the network has no such layer; near names are listed.
    """
    if layer == LAST:
        return _last(traced)
    if layer in traced.values and layer:
        return traced.values[layer]
    import difflib

    near = difflib.get_close_matches(layer, list(traced.values), n=4, cutoff=0.4) or list(traced.values)[-5:-1]
    raise LayerError(
        f"{traced.backbone.name} has no layer {layer!r} that can be cut; close: {', '.join(near)}. "
        "`topwork layers` lists them all."
    )


def _last(traced: Trace) -> Node:
    classifier = classifier_of(traced)
    return traced.entries[classifier] if classifier else traced.values[""]


def classifier_of(traced: Trace) -> str:
    """Return the name of the network's own classifier, "" if its output is its features."""
    classifier = traced.backbone.classifier
    if classifier is not None:
        return classifier if classifier in traced.entries else ""
    return _output_module(traced)


def _output_module(traced: Trace) -> str:
    """Return the linear layer or convolution that yields the network's output, "" if something else does."""
    node = traced.values[""]
    while str(node.target) in RESHAPES or any(name in str(node.target) for name in SQUASHES):
        node = node.all_input_nodes[0]
    return calls(node)[-1] if str(node.target) in LINEAR and calls(node) else ""
