"""The backbone: a network with everything that identifies it, as PyTorch module or as ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .input_spec import InputSpec

if TYPE_CHECKING:
    from .loading import BackboneSpec

DEFAULT_TOLERANCE = 1e-4
LARGEST_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class Backbone:
    """A network, ready to be cut: a :class:`TorchBackbone` or an :class:`OnnxBackbone`.

    Made by :func:`topwork.load_backbone`. It is immutable: copies share it.

    Parameters
    ----------
    name : str
        Architecture, such as ``"timm:resnet50"``.
    input_spec : ImageSpec, TextSpec or TensorSpec
        What the network eats.
    arguments : dict
        Arguments that the architecture was made with.
    pooling : str
        How the network's makers pool its last layer, such as ``"mean"``; "" if the network itself must tell.
    spec : BackboneSpec or None
        How to load the same backbone again; None for a module that the caller made.
    tolerance : float
        Largest relative L2 error that an export of this architecture may have; at most 1e-3.
    weights_digest : str
        SHA-256 of the weights, over their names, dtypes, shapes and bytes.
    """

    name: str
    input_spec: InputSpec
    arguments: dict[str, Any] = field(default_factory=dict)
    pooling: str = ""
    spec: BackboneSpec | None = None
    tolerance: float = DEFAULT_TOLERANCE
    weights_digest: str = ""

    def __post_init__(self) -> None:
        """Refuse a tolerance that proves nothing."""
        if not 0 < self.tolerance <= LARGEST_TOLERANCE:
            raise InputError(f"tolerance={self.tolerance}: expected more than 0 and at most {LARGEST_TOLERANCE}")

    def identity(self) -> dict[str, Any]:
        """Return what makes features of this backbone comparable; see :mod:`topwork.identity`."""
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
        return f"{type(self).__name__}({self.name!r}, weights={self.weights_digest[:12]})"
