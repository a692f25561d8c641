"""The legal cuts of a backbone, and where their channels are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from .flow import ancestors, flops_of, gates, parameters_of, tensor_of
from .tokens import prefix_tokens
from .trace import LAST, Trace, node_of, trace

if TYPE_CHECKING:
    from torch.fx import Node

    from ..models.backbone import Backbone

Kind = Literal["map", "tokens", "vector"]

CHANNELS_FIRST = ("conv", "batch_norm", "group_norm", "pool")
CHANNELS_LAST = ("linear", "layer_norm", "addmm")


@dataclass(frozen=True)
class Layer:
    """One legal cut.

    Parameters
    ----------
    name : str
        Dotted name of the module whose output it is; ``name@2`` for its second call; ``last`` for what feeds the
        network's own classifier.
    shape : tuple of int
        Of one item's value, without the batch.
    kind : {"map", "tokens", "vector"}
        A feature map, a sequence of tokens, or one vector.
    channel_axis : int or None
        Where the channels of a map are, in `shape`: 0 for channels first, -1 for channels last, None if unknown.
    prefix_tokens : int
        Tokens at the start of a sequence that are not of the input: class, distillation and register tokens.
    parameters, flops : float
        Share of the network's parameters, and of its multiplications and additions, that the cut keeps.
    single_tensor : bool
        All data of the network flows through this value: what lies above can be computed from it alone.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    channel_axis: int | None = None
    prefix_tokens: int = 0
    parameters: float = 0.0
    flops: float = 0.0
    single_tensor: bool = False


def layers(backbone: Backbone) -> list[Layer]:
    """List the legal cuts of a backbone, in order of execution, ``last`` at the end.

    Parameters
    ----------
    backbone : Backbone
        As :func:`topwork.load_backbone` returns it.

    Returns
    -------
    list of Layer
        Every value that the output of a named module yields, and ``last``.

    Examples
    --------
    >>> import topwork
    >>> [layer.name for layer in topwork.layers(topwork.load_backbone("topwork:tiny"))][-3:]
    ['pool', 'fc', 'last']
    """
    traced = trace(backbone)
    names = [name for name in traced.values if name] + [LAST]
    described = (describe(traced, backbone, name) for name in names)
    return _measured(traced, backbone, [layer for layer in described if layer is not None])


def _measured(traced: Trace, backbone: Backbone, found: list[Layer]) -> list[Layer]:
    """Add what lies below each cut, and whether all data flows through it."""
    whole = ancestors([traced.values[""]])
    passed = gates(traced.live, traced.values[""])
    parameters, flops = max(1, parameters_of(whole)), max(1, sum(map(flops_of, whole)))
    measured = []
    for layer in found:
        node = node_of(traced, backbone, layer.name)
        below = ancestors([node])
        share = parameters_of(below) / parameters
        cost = sum(map(flops_of, below)) / flops
        measured.append(replace(layer, parameters=share, flops=cost, single_tensor=node in passed))
    return measured


def describe(traced: Trace, backbone: Backbone, name: str) -> Layer | None:
    """Describe one layer; None if its value is none that features could be made of."""
    node = node_of(traced, backbone, name)
    shape = tuple(node.meta["val"].shape[1:])
    if len(shape) == 1:
        return Layer(name, shape, "vector")
    if len(shape) == 2:
        return Layer(name, shape, "tokens", prefix_tokens=prefix_tokens(traced, node))
    if len(shape) == 3:
        return Layer(name, shape, "map", _channel_axis(node))
    return None


def _channel_axis(node: Node) -> int | None:
    """Find the channels of a map: follow its value back to an operation that tells, or else judge by its sides."""
    start: tuple[int, ...] = (0, 1, 2, 3)
    pending, seen = [(node, start)], {node}
    while pending:
        current, order = pending.pop(0)  # order[i]: the axis of the current value that becomes axis i of the map
        channels = _told_by(current)
        if channels is not None:
            return _place(order, channels)
        if str(current.target) == "aten.permute.default":
            axes: Any = current.args[1]
            order = tuple(axes[axis] % 4 for axis in order)
        for source in current.all_input_nodes:
            if source not in seen and _axes(source) == 4:
                seen.add(source)
                pending.append((source, order))
    return _by_sides(tuple(node.meta["val"].shape[1:]))


def _told_by(node: Node) -> int | None:
    """Return the channel axis of a value with a batch axis, if the operation that made it says so."""
    target = str(node.target)
    if any(word in target for word in CHANNELS_LAST):
        return 3
    if any(word in target for word in CHANNELS_FIRST):
        return 1
    sizes = [n.meta["val"].shape[-1] for n in node.all_input_nodes if _axes(n) == 3]
    unfolded = target == "aten.view.default" and sizes == [node.meta["val"].shape[-1]]
    return 3 if unfolded else None  # tokens put back on their grid keep their channels last


def _axes(node: Node) -> int:
    return getattr(tensor_of(node), "ndim", 0)


def _place(order: tuple[int, ...], channels: int) -> int | None:
    """Return where the channel axis of an earlier value lies in the map, without the batch."""
    return {1: 0, 3: -1}.get(order.index(channels))


def _by_sides(shape: tuple[int, ...]) -> int | None:
    """Take the two equal sides of a map for height and width."""
    first, middle, last = shape
    if first == middle != last:
        return -1
    return 0 if middle == last != first else None
