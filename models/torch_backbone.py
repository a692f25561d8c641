"""A backbone that is a PyTorch module."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .backbone import Backbone
from .input_spec import InputSpec
from .weights import digest_of_state

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TorchBackbone(Backbone):
    """A PyTorch network.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode, on the CPU, without gradients.
    classifier : str or None
        Dotted name of the network's own classifier; "" if it has none and its output is its features; None if unknown.
    """

    module: nn.Module
    classifier: str | None = None
    traces: dict[Any, Any] = field(default_factory=dict, init=False)
    """What tracing found, so that it is done once: filled and read by :mod:`topwork.extract.graphs.torch.trace`."""

    @classmethod
    def from_module(cls, name: str, module: nn.Module, input_spec: InputSpec, **details: Any) -> TorchBackbone:
        """Freeze a module and digest its weights."""
        module = module.eval().requires_grad_(False)
        return cls(name=name, module=module, input_spec=input_spec, weights_digest=digest_of_state(module), **details)

    def arguments_of(self, inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Return the positional and the named arguments with which the module is called."""
        names = self.input_spec.argument_names
        if not names:
            return inputs, {}
        return (), dict(zip(names, inputs, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the traces behind: they hold code that cannot be pickled."""
        return {**self.__dict__, "traces": {}}

    def run(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the network's output, the first one if it has several."""
        positional, named = self.arguments_of(inputs)
        output: Any = self.module(*positional, **named)
        while not hasattr(output, "shape"):
            output = next(iter(output.values() if isinstance(output, Mapping) else output))
        tensor: Tensor = output
        return tensor


def private_copy(module: nn.Module) -> nn.Module:
    """Return a copy of the caller's module, so that freezing does not change theirs."""
    return copy.deepcopy(module).cpu()
