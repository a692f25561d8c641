"""Trace a module once into a functional graph, and find the value that each named module yields.

``torch.export`` records with every operation the modules it ran in. A module's output is then the one tensor that
is computed inside it and used outside it; nothing is guessed from the list of its children. In-place operations are
made functional first, or a cut behind a BatchNorm would see what the ReLU after it has overwritten.
"""

from __future__ import annotations

import contextlib
import difflib
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ....errors import ExportError, LayerError, TopworkError, reason
from ...preprocess.by_kind import example_feed
from ..layer import INPUT, LAST
from ..routes import DEFAULT_TRACING, Tracing, use_plain_attention
from .flow import example_shape, example_tensor, list_live_nodes
from .inputs import dynamic_axes, model_inputs, to_tensors
from .module_calls import find_returned_shapes
from .training_mode import restore_batch_norm
from .varying_axes import VaryingAxes, find_varying_axes

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import GraphModule, Node

    from ....models.backbone import TorchBackbone

RESHAPES = ("aten.view.default", "aten.squeeze.dim", "aten.squeeze.dims")
SQUASHES = ("softmax", "sigmoid")
INPUT_REMEDIES = {
    "'indices'": "It takes integers: pass input_spec=TensorSpec(shape, dtype='int64', n_values=…).",
    "index out of range": "n_values is the number of values that the integers can have: the rows of its embedding.",
    "required positional argument": (
        "topwork passes one tensor (for text, token ids and mask): wrap the module in one that takes it and divides it."
    ),
    "channels": (
        "Images have 3 channels: for another number pass arrays, with input_spec=TensorSpec((channels, height, width))."
    ),
}
"""What to do where the message of a model that fails on its input contains a text."""
LINEAR = ("aten.linear.default", "aten.addmm.default", "aten.conv2d.default")


@dataclass(frozen=True)
class Trace:
    """A PyTorch module as a functional graph, called as the backbone's module is.

    `live` lists the nodes whose value depends on the input, in order. `values` has for each module call, in order of
    execution, the node of its only output; ``""`` is the model's own output, and a second call of a module is called
    ``name@2``. `entries` has for each module call the node of the activation that enters it.
    """

    backbone: TorchBackbone
    module: GraphModule
    live: list[Node]
    values: dict[str, Node]
    entries: dict[str, Node]

    @cached_property
    def varying_axes(self) -> VaryingAxes:
        """Which axes of the values of module calls grow with the input; measured on first use."""
        return find_varying_axes(self.backbone, [call for call in calls_in_order(self.module) if call])


def trace(backbone: TorchBackbone, tracing: Tracing = DEFAULT_TRACING) -> Trace:
    """Trace a backbone with a free batch size, and for text with any number of tokens; done once for each backbone."""
    if tracing not in backbone.traces:
        try:
            backbone.traces[tracing] = make_trace(backbone, tracing)
        except TopworkError:
            raise
        except Exception as error:
            raise ExportError(f"{backbone.name} does not run on its own inputs: {reason(error)}") from error
    traced: Trace = backbone.traces[tracing]
    return traced


def make_trace(backbone: TorchBackbone, tracing: Tracing) -> Trace:
    """Trace a backbone, and find which node each module call yields and which one enters it."""
    position = find_output_position(backbone)
    module = make_functional_graph(backbone, tracing)
    live = list_live_nodes(module)
    nodes_of_call = group_by_call(live)

    # Find the output of each call.
    shapes = find_returned_shapes(backbone, calls_in_order(module))
    input_sizes = tuple(map(str, live[0].meta["val"].shape))
    outputs = {}
    for call, nodes in nodes_of_call.items():
        output = find_output(nodes, shapes.get(call, ()))
        if output is not None and is_batch_of_features(output, input_sizes, backbone.input_spec.pads_batches):
            outputs[call] = output
    if not backbone.classifier_is_trained:
        behind = list_behind(live, str(backbone.classifier))
        outputs = {call: node for call, node in outputs.items() if node not in behind}
    order = {node: position for position, node in enumerate(module.graph.nodes)}
    values = dict(sorted(outputs.items(), key=lambda pair: (order[pair[1]], -pair[0].count("."))))
    values[""] = find_model_output(module, position)

    # Find the input of each call.
    entries = {}
    for call, nodes in nodes_of_call.items():
        entry = find_entry(call, nodes, live)
        if entry is not None:
            entries[call] = entry
    return Trace(backbone, module, live, values=values, entries=entries)


def list_behind(live: Iterable[Node], call: str) -> set[Node]:
    """Return the nodes of a module call, and those that depend on them."""
    behind: set[Node] = set()
    for node in live:
        if call in calls_of_node(node) or not behind.isdisjoint(node.all_input_nodes):
            behind.add(node)
    return behind


def group_by_call(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    """Return the nodes that ran in each module call."""
    nodes_of_call: dict[str, list[Node]] = {}
    for node in nodes:
        for call in calls_of_node(node):
            if call:
                nodes_of_call.setdefault(call, []).append(node)
    return nodes_of_call


def make_functional_graph(backbone: TorchBackbone, tracing: Tracing) -> GraphModule:
    """Trace a backbone by ``torch.export`` into a graph without in-place operations."""
    import torch

    spec = backbone.input_spec
    inputs = model_inputs(spec, to_tensors(example_feed(spec)))
    positional, named = backbone.arguments_of(inputs)
    axes = dynamic_axes(spec, tracing.inferred)
    shapes: Any = dict(zip(named, axes, strict=True)) if named else axes
    attention = use_plain_attention(backbone.module) if tracing.plain_attention else contextlib.nullcontext()
    try:
        with warnings.catch_warnings(), torch.no_grad(), attention:
            warnings.simplefilter("ignore")
            program = torch.export.export(
                backbone.module, positional, named, dynamic_shapes=shapes, strict=tracing.strict
            )
            module = program.run_decompositions(list_decompositions(tracing)).module()
    except Exception as error:
        raise ExportError(f"{backbone.name} cannot be traced by torch.export: {reason(error)}") from error
    assert isinstance(module, torch.fx.GraphModule)
    remove_input_checks(module)
    restore_batch_norm(module)
    return module


def remove_input_checks(module: GraphModule) -> None:
    """Remove torch's checks of the input, which stand between the input and what reads it."""
    for node in list(module.graph.nodes):
        if node.op == "call_module" and not node.users:
            module.graph.erase_node(node)


def list_decompositions(tracing: Tracing) -> dict[Any, Any]:
    """Return the operations that are replaced by others; always that of a number minus a tensor of another type.

    torch 2.13's exporter rewrites ``1.0 - mask`` of an integer mask to an operation that does not exist.
    """
    import torch

    table = dict(torch.export.default_decompositions()) if tracing.decompose else {}
    table[torch.ops.aten.rsub.Scalar] = subtract_from_number
    return table


def subtract_from_number(tensor: Tensor, number: float, alpha: float = 1) -> Tensor:
    """Return a number minus a multiple of a tensor."""
    return tensor * -alpha + number


def find_output_position(backbone: TorchBackbone) -> int:
    """Return the position of the model's output among all that the module returns, in the order of torch's pytrees.

    Raise an ExportError if the model does not take its own inputs, with what the user may do about it.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    inputs = model_inputs(backbone.input_spec, to_tensors(example_feed(backbone.input_spec)))
    try:
        with torch.no_grad():
            output = backbone.call(inputs)
    except Exception as error:
        remedies = [remedy for symptom, remedy in INPUT_REMEDIES.items() if symptom in str(error)]
        raise ExportError(
            f"{backbone.name} does not run on {type(backbone.input_spec).__name__}'s input of shape "
            f"{tuple(inputs[0].shape)}: {reason(error)}. {' '.join(remedies)}".rstrip()
        ) from error
    selected = backbone.select(output)
    return next(position for position, leaf in enumerate(tree_leaves(output)) if leaf is selected)


def find_model_output(module: GraphModule, position: int) -> Any:
    """Return the node of a graph's output, given its position if there are several."""
    output: Any = module.graph.output_node().args[0]
    if isinstance(output, (tuple, list)):
        return output[position]
    return output


def calls_of_node(node: Node) -> list[str]:
    """Return the module calls a node ran in, outermost first, such as ``layer1.0.relu@2`` for a second call."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    calls = []
    for key, (path, _) in stack.items():
        _, _, number = key.partition("@")  # torch's keys end in nothing for the first call, in "@1" for the second
        calls.append(f"{path}@{int(number) + 1}" if number else path)
    return calls


def calls_in_order(module: GraphModule) -> list[str]:
    """Return every module call of a traced graph, once."""
    calls: dict[str, None] = {}
    for node in module.graph.nodes:
        calls.update(dict.fromkeys(calls_of_node(node)))
    return list(calls)


def find_output(nodes: list[Node], shapes: Collection[tuple[int, ...]]) -> Node | None:
    """Return the one tensor that leaves the nodes of a module call, None if there is none.

    Making operations functional may move a reshape from a module's end behind it: then the last value that has one of
    the shapes which the module returned for the example batch is returned.
    """
    members = set(nodes)
    leaving = [node for node in nodes if any(user not in members for user in node.users)]
    if len(leaving) != 1:
        return None
    if example_shape(leaving[0]) in shapes:
        return leaving[0]
    for node in reversed(nodes):
        if example_shape(node) in shapes:
            return node
    return None


def find_entry(call: str, nodes: list[Node], live: list[Node]) -> Node | None:
    """Return the first activation that enters the nodes of a module call.

    Making in-place operations functional may move a reshape from before a linear layer into it: then the layer's own
    operand is returned.
    """
    operations = [node for node in nodes if str(node.target) not in RESHAPES] or nodes
    first = operations[0]
    is_linear_layer = str(first.target) in LINEAR and calls_of_node(first)[-1] == call
    members = [first] if is_linear_layer else nodes
    outside = set(live).difference(members)
    for node in members:
        for source in node.all_input_nodes:
            if source in outside:
                return source
    return None


def is_batch_of_features(node: Node, input_sizes: tuple[str, ...], is_padded: bool) -> bool:
    """Check that a value is float and has the batch's free size first, followed by fixed sizes.

    Of padded texts the number of tokens, the second size of the input, may stand behind the batch. Of sounds one of two
    sizes behind the batch may be that of the frames, whatever their number.
    """
    value = example_tensor(node)
    if not value.is_floating_point() or value.ndim < 2 or str(value.shape[0]) != input_sizes[0]:
        return False
    sizes = list(value.shape[1:])
    free = [position for position, size in enumerate(sizes) if not isinstance(size, int)]
    if not free:
        return True
    if len(sizes) != 2 or len(free) != 1:
        return False
    return not is_padded or (free == [0] and len(input_sizes) > 1 and str(sizes[0]) == input_sizes[1])


def find_node(traced: Trace, layer: str) -> Node:
    """Return the node that a layer's name stands for; ``last`` is what feeds the model's own classifier.

    ``input`` is what enters the model, such as normalised pixels. An unknown name raises a LayerError, which lists
    similar ones.
    """
    if layer == INPUT:
        return find_input(traced)
    if layer == LAST:
        if traced.backbone.last_layer:
            return traced.values[traced.backbone.last_layer]
        classifier = find_classifier(traced)
        if classifier:
            return traced.entries[classifier]
        if not traced.backbone.classifier_is_trained:
            raise LayerError(
                f"{traced.backbone.name}: 'last' depends on the classifier, which the file has no weights for; expected"
                " a layer before it. `topwork layers` lists them all."
            )
        return traced.values[""]
    if layer in traced.values and layer:
        return traced.values[layer]
    names = list(traced.values)
    similar = difflib.get_close_matches(layer, names, n=4, cutoff=0.4) or names[-5:-1]
    untrained = ""
    if not traced.backbone.classifier_is_trained:
        untrained = f" (the file of weights has none for its classifier {traced.backbone.classifier!r})"
    raise LayerError(
        f"{traced.backbone.name} has no layer {layer!r} that can be cut{untrained}; close: {', '.join(similar)}. "
        "`topwork layers` lists them all."
    )


def find_input(traced: Trace) -> Node:
    """Return the node of what enters the model; raise a LayerError for token ids and for sounds of any length."""
    if traced.backbone.input_spec.lengths_vary:
        raise LayerError(
            f"{traced.backbone.name}: the input of a text model is token ids, and that of a model of sounds of any "
            "length is samples, not features; expected a layer, such as its embeddings. `topwork layers` lists them."
        )
    return traced.live[0]


def find_classifier(traced: Trace) -> str:
    """Return the name of the model's own classifier, "" if its output is its features."""
    classifier = traced.backbone.classifier
    if classifier is None:
        return find_output_layer(traced)
    return classifier if classifier in traced.entries else ""


def find_output_layer(traced: Trace) -> str:
    """Return the linear layer or convolution that yields the model's output, "" if something else does."""
    node = traced.values[""]
    while str(node.target) in RESHAPES or any(name in str(node.target) for name in SQUASHES):
        node = node.all_input_nodes[0]
    calls = calls_of_node(node)
    return calls[-1] if calls and str(node.target) in LINEAR else ""
