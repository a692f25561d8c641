"""The calls of a network's modules, as an ordinary run of the network makes them.

A module object may have several names and be called several times: what identifies a call is the object and the number
of the call.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...preprocess.by_kind import example_feed
from .entry import network_inputs, tensors_of

if TYPE_CHECKING:
    from torch import nn

    from ....models.torch_backbone import TorchBackbone


def call_numbers(modules: Mapping[str, nn.Module], calls: Iterable[str]) -> dict[str, int]:
    """Return for each module call, named as in a trace and in order, its number among the calls of the same object."""
    counts: Counter[int] = Counter()
    numbers = {}
    for call in calls:
        if path_of(call) in modules:
            key = id(modules[path_of(call)])
            counts[key] += 1
            numbers[call] = counts[key]
    return numbers


def path_of(call: str) -> str:
    """Return the name of the module of a call such as ``layer1.0.relu@2``."""
    return call.partition("@")[0]


@contextlib.contextmanager
def on_call(module: nn.Module, number: int, take: Callable[[Any], None], *, entering: bool = False) -> Iterator[None]:
    """Hand what one call of a module returns, or what enters it, to a function inside the block."""
    seen = 0

    def count(values: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            take(values)

    if entering:
        handle = module.register_forward_pre_hook(
            lambda _, args, named: count([*args, *named.values()]), with_kwargs=True
        )
    else:
        handle = module.register_forward_hook(lambda _, args, output: count(output))
    try:
        yield
    finally:
        handle.remove()


def tensors_in(values: Any) -> Iterator[Any]:
    """Yield the tensors of what a module returned: one, or several in tuples, lists and dictionaries."""
    if isinstance(values, Mapping):
        values = tuple(values.values())
    if isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors_in(value)
    elif hasattr(values, "shape"):
        yield values


def yielded_shapes(backbone: TorchBackbone, calls: Sequence[str]) -> dict[str, set[tuple[int, ...]]]:
    """Run the network on the example batch, and return the shapes of the tensors that each module call returns."""
    import torch

    modules = dict(backbone.module.named_modules(remove_duplicate=False))
    shapes: dict[str, set[tuple[int, ...]]] = {}

    def note(call: str, values: Any) -> None:
        shapes[call] = {tuple(tensor.shape) for tensor in tensors_in(values)}

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for call, number in call_numbers(modules, calls).items():
            hooks.enter_context(on_call(modules[path_of(call)], number, functools.partial(note, call)))
        backbone.run(network_inputs(backbone.input_spec, tensors_of(example_feed(backbone.input_spec))))
    return shapes
