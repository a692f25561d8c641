"""The calls of a model's modules in an ordinary run, and hooks on them.

A module object may have several names and be called several times: what identifies a call is the object and the number
of the call.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ....models.module_output import iterate_tensors
from ...preprocess.by_kind import example_feed
from .inputs import model_inputs, to_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ....models.backbone import TorchBackbone


def number_calls(modules: Mapping[str, nn.Module], calls: Iterable[str]) -> dict[str, int]:
    """Return for each module call, named as in a trace, its number among the calls of the same object.

    Calls of unknown modules are skipped.
    """
    counts: Counter[int] = Counter()
    numbers = {}
    for call in calls:
        module = modules.get(module_name(call))
        if module is not None:
            counts[id(module)] += 1
            numbers[call] = counts[id(module)]
    return numbers


def module_name(call: str) -> str:
    """Return the name of the module of a call such as ``layer1.0.relu@2``."""
    name, _, _ = call.partition("@")
    return name


@contextlib.contextmanager
def hook_call(module: nn.Module, number: int, take: Callable[[Any], None], *, entering: bool = False) -> Iterator[None]:
    """Pass what one call of a module returns, or with `entering` its arguments, to a function, inside the block.

    The calls are counted from 1.
    """
    calls = 0

    def count_call(values: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            take(values)

    def before(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        count_call([*positional, *named.values()])

    def after(module: nn.Module, arguments: Any, output: Any) -> None:
        count_call(output)

    if entering:
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def find_returned_shapes(backbone: TorchBackbone, calls: Sequence[str]) -> dict[str, set[tuple[int, ...]]]:
    """Run the model on the example batch, and return the shapes of the tensors that each module call returns."""
    inputs = model_inputs(backbone.input_spec, to_tensors(example_feed(backbone.input_spec)))
    return {call: set(shapes) for call, shapes in record_shapes(backbone, calls, inputs).items()}


def record_shapes(
    backbone: TorchBackbone, calls: Sequence[str], inputs: tuple[Tensor, ...]
) -> dict[str, list[tuple[int, ...]]]:
    """Run the model on its own inputs, and return the shapes of the tensors that each module call returns, in order.

    The shape of the model's own output is under ``""``.
    """
    import torch

    modules = dict(backbone.module.named_modules(remove_duplicate=False))
    shapes: dict[str, list[tuple[int, ...]]] = {}

    def record(call: str, values: Any) -> None:
        shapes[call] = [tuple(tensor.shape) for tensor in iterate_tensors(values)]

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for call, number in number_calls(modules, calls).items():
            hooks.enter_context(hook_call(modules[module_name(call)], number, partial(record, call)))
        output = backbone.run(inputs)
    shapes[""] = [tuple(output.shape)]
    return shapes
