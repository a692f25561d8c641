"""The upper part: the layers above a cut as a trainable module, traced in evaluation and in training mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from ....errors import ExportError, LayerError, ParityError
from ....models.backbone import Backbone, OnnxBackbone, TorchBackbone
from ...preprocess.by_kind import example_feed
from ..dataflow import find_ancestors
from ..layer import LAST, Layer
from ..reference_pooling import prepare_reference_inputs
from ..routes import TORCH_ROUTES, Tracing
from .layers import describe_layer
from .reference import record_layers
from .trace import Trace, calls_of_node, find_node, make_trace, trace
from .training_mode import copy_in_training_mode

SIZE = "aten.sym_size.int"


class UpperPart(nn.Module):
    """The layers above a cut, with the parameters and names that they have in the whole network.

    Made by :func:`topwork.upper_part`. ``train()`` and ``eval()`` choose between two traced programs over the same
    parameters: dropout and stochastic depth act in training only.

    Attributes
    ----------
    layer : Layer
        The cut: what enters.
    to_layer : Layer
        What is returned.
    takes_mask : bool
        Whether :meth:`forward` needs the attention mask of a text.
    shared : tuple of str
        Names of parameters that the layers below the cut use as well. They are not trained.
    """

    def __init__(self, layer: Layer, to: Layer, slices: dict[bool, Slice]) -> None:
        super().__init__()
        self.layer = layer
        self.to_layer = to
        self.takes_mask = any(piece.takes_mask for piece in slices.values())
        self.shared = tuple(sorted({name for piece in slices.values() for name in piece.shared}))
        programs: dict[bool, Callable[..., Tensor]] = {}
        for is_training, piece in slices.items():
            for name, tensor in piece.tensors.items():
                place_tensor(self, name, tensor, is_trained=name not in self.shared)
            programs[is_training] = type(GraphModule(self, piece.graph)).forward
        self._programs = programs

    def forward(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute what lies above the cut.

        Parameters
        ----------
        value : Tensor
            A batch of values of the cut, ``(batch, *layer.shape)``, float32 or float16. At the cut ``"input"`` what
            enters the network: for images normalised pixels, ``(batch, 3, height, width)``.
        mask : Tensor, optional
            int64 ``(batch, tokens)``, 1 for the tokens of a text and 0 for padding.

        Returns
        -------
        Tensor
            float32 ``(batch, *to_layer.shape)``.
        """
        inputs = (value.float(), mask) if self.takes_mask else (value.float(),)
        return self._programs[self.training](self, *inputs)


def upper_part(backbone: Backbone, layer: str, to: str = LAST, *, train_batch_norm: bool = False) -> UpperPart:
    """Return the layers above a cut as a trainable module.

    Lower part, then upper part, equals the whole: the upper part is compared with the network before it is returned.

    Parameters
    ----------
    backbone : Backbone
        As :func:`topwork.load_backbone` returns it; not one of an ONNX file, whose layers cannot be trained.
    layer : str
        The cut: a layer that all data flow through (``single_tensor`` in the list of :func:`topwork.layers`), or
        ``"input"`` for the whole network.
    to : str
        The last layer to keep; what lies above it is dropped.
    train_batch_norm : bool
        Whether BatchNorm normalises by the batch in training and updates its running statistics; by default it keeps
        those of the pretrained network.

    Returns
    -------
    UpperPart
        In evaluation mode, on the CPU, in float32; its parameters are copies.

    Raises
    ------
    LayerError
        If there is no such layer, several tensors cross the cut, or `to` does not lie above it.
    ExportError
        If the backbone is an ONNX file, or ``torch.export`` cannot follow the model.
    ParityError
        If the upper part does not compute what the network does.

    Examples
    --------
    >>> import topwork
    >>> upper = topwork.upper_part(topwork.load_backbone("topwork:tiny"), "layer2")
    >>> upper.layer.shape, upper.to_layer.shape
    ((40, 16, 16), (80,))
    """
    if isinstance(backbone, OnnxBackbone):
        raise ExportError(
            f"{backbone.name} is an ONNX file, whose layers cannot be trained; expected a PyTorch model such as "
            "timm:NAME, hf:NAME or an own nn.Module"
        )
    assert isinstance(backbone, TorchBackbone)
    failures: list[ExportError] = []
    for tracing in dict.fromkeys(route.tracing for route in TORCH_ROUTES):
        try:
            evaluated = trace(backbone, tracing)
            trained = trace_in_training_mode(backbone, tracing, train_batch_norm=train_batch_norm)
        except ExportError as error:
            failures.append(error)
            continue
        slices = {
            False: cut_slice(evaluated, layer, to, mode="evaluation", values=backbone.module),
            True: cut_slice(trained, layer, to, mode="training", values=backbone.module),
        }
        upper = UpperPart(describe_layer(evaluated, layer), describe_layer(evaluated, to), slices).eval()
        compare_with_network(upper, evaluated)
        return upper
    raise failures[0]


def trace_in_training_mode(backbone: TorchBackbone, tracing: Tracing, *, train_batch_norm: bool) -> Trace:
    """Trace a copy of a backbone in training mode; done once for each backbone, whatever the cut."""
    key = (tracing, train_batch_norm)
    if key not in backbone.traces:
        copied = copy_in_training_mode(backbone, train_batch_norm=train_batch_norm)
        backbone.traces[key] = make_trace(copied, tracing)
    traced: Trace = backbone.traces[key]
    return traced


@dataclass(frozen=True)
class Slice:
    """The operations of a traced graph between two layers, and the tensors that they hold."""

    graph: Graph
    takes_mask: bool
    tensors: dict[str, Tensor]
    shared: tuple[str, ...]
    """Names of tensors that operations below the first layer use as well."""


def cut_slice(traced: Trace, layer: str, to: str, *, mode: str, values: nn.Module) -> Slice:
    """Cut the operations between two layers out of a trace; tensors of the network are copied from `values`."""
    _, *others = traced.module.graph.find_nodes(op="placeholder")
    start = find_node(traced, layer)
    end = find_node(traced, to)
    above = find_above(traced.live, start)
    if end is start or end not in above:
        raise LayerError(f"{to!r} does not lie above {layer!r}: what is kept must start at the cut and end above it")
    needed = find_needed(end, start)
    refuse_several_tensors(traced, needed, above, layer=layer)
    graph = Graph()
    copies: dict[Node, Node] = {start: graph.placeholder("value")}
    takes_mask = any(other in needed for other in others)
    if takes_mask:
        copies[others[-1]] = graph.placeholder("mask")
    tensors: dict[str, Tensor] = {}
    known = {**dict(values.named_parameters()), **dict(values.named_buffers())}
    for node in traced.module.graph.nodes:
        if node not in needed or node in copies:
            continue
        if is_size_below(node, above):
            copies[node] = graph.call_function(node.target, (copies[start], find_equal_axis(node, start, layer)))
            continue
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if node.target is torch.ops.aten.view.default:  # of the layout in memory that the trace had; any may be given
            copies[node].target = torch.ops.aten.reshape.default
        if node.op == "get_attr":
            name = str(node.target)
            if name not in known:
                copies[node].target = name = f"{mode}_{name}"
                tensors[name] = get_tensor(traced.module, str(node.target))
            else:
                tensors[name] = known[name]
    graph.output(copies[end])
    below = {str(node.target) for node in find_ancestors([start]) if node.op == "get_attr"}
    return Slice(graph, takes_mask, tensors, shared=tuple(sorted(below.intersection(tensors))))


def find_above(live: Iterable[Node], start: Node) -> set[Node]:
    """Return the live nodes that depend on a node, and the node itself."""
    above = {start}
    for node in live:
        if not above.isdisjoint(node.all_input_nodes):
            above.add(node)
    return above


def find_needed(end: Node, start: Node) -> set[Node]:
    """Return the nodes that a node is computed from, given another one's value; what sizes are read from is none."""
    needed = {start}
    pending = [end]
    while pending:
        node = pending.pop()
        if node in needed:
            continue
        needed.add(node)
        if str(node.target) != SIZE:
            pending.extend(node.all_input_nodes)
    return needed


def refuse_several_tensors(traced: Trace, needed: set[Node], above: set[Node], *, layer: str) -> None:
    """Raise a LayerError if other values than the cut's enter what lies above it."""
    crossing: set[Node] = set()
    for node in above & needed:
        crossing.update(source for source in node.all_input_nodes if source in needed and source not in above)
    others = crossing.intersection(traced.live)
    if not others:
        return
    names = {node: name for name, node in traced.values.items() if name}
    listed = ", ".join(sorted(names.get(node, f"a value inside {layer_around(node)}") for node in others))
    raise LayerError(
        f"{layer!r} is no cut to train above: what lies above it is computed from {listed} as well. Expected a layer "
        "that all data flow through, such as the end of a block; `topwork layers` marks them."
    )


def layer_around(node: Node) -> str:
    """Return the innermost module call that a node ran in, for a message."""
    calls = calls_of_node(node)
    return (calls[-1] if calls else "") or "the model"


def is_size_below(node: Node, above: set[Node]) -> bool:
    """Return whether a node is the size of a value that does not depend on the cut."""
    return str(node.target) == SIZE and node.all_input_nodes[0] not in above


def find_equal_axis(node: Node, start: Node, layer: str) -> int:
    """Return the axis of the cut's value that has the free size that a node reads elsewhere."""
    size = str(node.meta["val"])
    for axis, other in enumerate(start.meta["val"].shape):
        if str(other) == size:
            return axis
    raise LayerError(
        f"{layer!r} is no cut to train above: what lies above it reads a size of the input that its value does not have"
    )


def get_tensor(module: nn.Module, name: str) -> Tensor:
    """Return a parameter, buffer or constant of a module by its dotted name."""
    owner, _, attribute = name.rpartition(".")
    tensor: Tensor = getattr(module.get_submodule(owner), attribute)
    return tensor


def place_tensor(root: nn.Module, name: str, tensor: Tensor, *, is_trained: bool) -> None:
    """Copy a tensor into a module under a dotted name, unless it is there; modules on the way are made."""
    *path, attribute = name.split(".")
    owner = root
    for part in path:
        if not hasattr(owner, part):
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)
    if hasattr(owner, attribute):
        return
    copied = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(attribute, nn.Parameter(copied, requires_grad=is_trained))
    else:
        owner.register_buffer(attribute, copied)


def compare_with_network(upper: UpperPart, traced: Trace) -> None:
    """Raise a ParityError if the upper part, given the value of the cut in the network, yields another than it does."""
    backbone = traced.backbone
    feed = example_feed(backbone.input_spec)
    prepared = prepare_reference_inputs(backbone.input_spec, feed)
    inputs = tuple(torch.from_numpy(array) for array in prepared)
    with torch.no_grad():
        values = record_layers(traced, (upper.layer, upper.to_layer), inputs)
        mask = inputs[-1] if upper.takes_mask else None
        computed = upper(values[upper.layer.name], mask).double().numpy()
    expected = values[upper.to_layer.name].double().numpy()
    error = float(np.linalg.norm(computed - expected) / np.linalg.norm(expected))
    if not error <= backbone.tolerance:
        raise ParityError(
            f"the layers of {backbone.name} above {upper.layer.name!r} yield {upper.to_layer.name!r} with a relative "
            f"error of {error:.1e}; expected at most {backbone.tolerance:.0e}. Choose another layer."
        )
