"""The backbone: a network in evaluation mode, with everything that identifies it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .input_spec import InputSpec
from .weights import digest_of_state

if TYPE_CHECKING:
    from torch import nn

    from .loading import BackboneSpec

DEFAULT_TOLERANCE = 1e-4
LARGEST_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Backbone:
    """A PyTorch network, ready to be cut.

    Made by :func:`topwork.load_backbone`. It is immutable: copies share it.

    Parameters
    ----------
    name : str
        Architecture, such as ``"timm:resnet50"``.
    module : torch.nn.Module
        In evaluation mode, on the CPU, without gradients.
    input_spec : ImageSpec
        What the network eats.
    arguments : dict
        Arguments that the architecture was made with.
    classifier : str or None
        Dotted name of the network's own classifier; "" if it has none and its output is its features; None if unknown.
    spec : BackboneSpec or None
        How to load the same backbone again; None for a module that the caller made.
    tolerance : float
        Largest relative L2 error that an export of this architecture may have; at most 1e-3.
    weights_digest : str
        SHA-256 of the weights, over their names, dtypes, shapes and bytes.
    """

    name: str
    module: nn.Module
    input_spec: InputSpec
    arguments: dict[str, Any] = field(default_factory=dict)
    classifier: str | None = None
    spec: BackboneSpec | None = None
    tolerance: float = DEFAULT_TOLERANCE
    weights_digest: str = ""

    @classmethod
    def from_module(cls, name: str, module: nn.Module, input_spec: InputSpec, **details: Any) -> Backbone:
        """Freeze a module and digest its weights."""
        if not 0 < details.get("tolerance", DEFAULT_TOLERANCE) <= LARGEST_TOLERANCE:
            raise InputError(f"tolerance={details['tolerance']}: expected more than 0 and at most {LARGEST_TOLERANCE}")
        module = module.eval().requires_grad_(False)
        return cls(name, module, input_spec, weights_digest=digest_of_state(module), **details)

    def identity(self) -> dict[str, Any]:
        """Return what makes features of this backbone comparable; see :mod:`topwork.extract.identity`."""
        return {
            "architecture": self.name,
            "arguments": self.arguments,
            "weights": self.weights_digest,
            "input": self.input_spec.to_json(),
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        """Share the network between copies of an estimator (``sklearn.base.clone`` copies parameters)."""
        return self

    def __repr__(self) -> str:
        """Name the backbone and the start of its digest."""
        return f"Backbone({self.name!r}, weights={self.weights_digest[:12]})"


def private_copy(module: nn.Module) -> nn.Module:
    """Return a copy of the caller's module, so that freezing does not change theirs."""
    return copy.deepcopy(module).cpu()
