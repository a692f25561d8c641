"""Backbones: a model with everything that identifies it, as a PyTorch module or as an ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..errors import ExportError, InputError
from .input_spec import InputSpec
from .module_copy import set_evaluation_mode
from .module_output import select_output
from .weights import digest_of_state

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT_TOLERANCE = 1e-4
LARGEST_TOLERANCE = 1e-3
QUANTIZED_TOLERANCE = 1e-2
"""Largest error of a quantised ONNX file: a value between two quantised numbers may be rounded either way."""


class Loadable(Protocol):
    """How to load a backbone again; see :class:`topwork.BackboneSpec`."""

    def load(self) -> Backbone:
        """Load the backbone."""

    def request(self) -> dict[str, Any]:
        """Return the fields that decide which model is loaded."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Backbone:
    """A model that can be cut: the interface of :class:`TorchBackbone` and :class:`OnnxBackbone`.

    Made by :func:`topwork.load_backbone`. It is immutable: copies share it.

    Parameters
    ----------
    name : str
        Architecture, such as ``"timm:resnet50"``.
    input_spec : ImageSpec, TextSpec or TensorSpec
        The input that the model expects.
    arguments : dict
        Arguments that the architecture was made with.
    pooling : str
        How the model's authors pool its last layer, such as ``"mean"``; "" if it must be found in the model itself.
    spec : BackboneSpec or None
        How to load the same backbone again; None for a module that the caller made.
    tolerance : float
        Largest relative L2 error that an export of this architecture may have; at most 1e-3, of an ONNX file 1e-2.
    weights_digest : str
        SHA-256 of the weights, over their names, dtypes, shapes and bytes.
    """

    largest_tolerance: ClassVar[float] = LARGEST_TOLERANCE

    name: str
    input_spec: InputSpec
    arguments: dict[str, Any] = field(default_factory=dict)
    pooling: str = ""
    spec: Loadable | None = None
    tolerance: float = DEFAULT_TOLERANCE
    weights_digest: str = ""

    def __post_init__(self) -> None:
        """Refuse a tolerance too large to prove anything."""
        if not 0 < self.tolerance <= self.largest_tolerance:
            raise InputError(f"tolerance={self.tolerance}: expected more than 0 and at most {self.largest_tolerance}")

    def identity(self) -> dict[str, Any]:
        """Return the fields that make features of this backbone comparable; see :mod:`topwork.identity`."""
        return {
            "architecture": self.name,
            "arguments": self.arguments,
            "weights": self.weights_digest,
            "input": self.input_spec.to_json(),
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        """Share the model between copies of an estimator (``sklearn.base.clone`` copies parameters)."""
        return self

    def __repr__(self) -> str:
        """Name the backbone and the start of its digest."""
        return f"{type(self).__name__}({self.name!r}, weights={self.weights_digest[:12]})"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class OnnxBackbone(Backbone):
    """A model in an ONNX file; neither cutting nor running it needs torch.

    Parameters
    ----------
    path : Path
        The file. Its first input takes normalised images, ``(batch, 3, height, width)`` or ``(batch, height, width,
        3)``, the token ids, or the tensor.
    """

    largest_tolerance: ClassVar[float] = QUANTIZED_TOLERANCE

    path: Path


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TorchBackbone(Backbone):
    """A PyTorch module.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode, on the CPU, without gradients.
    classifier : str or None
        Dotted name of the model's own classifier; "" if it has none and its output is its features; None if unknown.
    last_layer : str
        Dotted name of the layer that ``last`` stands for; "" for the input of the classifier, or the model's output.
    classifier_is_trained : bool
        False if the file of weights had none for the classifier: then nothing behind it can be cut.
    """

    module: nn.Module
    classifier: str | None = None
    last_layer: str = ""
    classifier_is_trained: bool = True
    traces: dict[Any, Any] = field(default_factory=dict, init=False)
    """Cache of traced graphs, filled and read by :mod:`topwork.extract.graphs.torch.trace`."""

    @classmethod
    def from_module(cls, name: str, module: nn.Module, input_spec: InputSpec, **details: Any) -> TorchBackbone:
        """Freeze a module and digest its weights."""
        set_evaluation_mode(module)
        module.requires_grad_(False)
        return cls(name=name, module=module, input_spec=input_spec, weights_digest=digest_of_state(module), **details)

    def arguments_of(self, inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Return the positional and the named arguments with which the module is called."""
        names = self.input_spec.argument_names
        if not names:
            return inputs, {}
        return (), dict(zip(names, inputs, strict=True))

    def call(self, inputs: tuple[Tensor, ...]) -> Any:
        """Return everything that the module returns."""
        positional, named = self.arguments_of(inputs)
        return self.module(*positional, **named)

    def run(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the model's output: a tensor, or the one that :func:`select_output` finds."""
        return self.select(self.call(inputs))

    def select(self, output: Any) -> Tensor:
        """Return the tensor among what the module returned that is its output; raise an ExportError for none."""
        tensor: Tensor | None = select_output(output)
        if tensor is None:
            raise ExportError(
                f"{self.name}: its output is a {type(output).__name__} without a tensor; expected a tensor, or "
                "tensors in tuples, lists and dictionaries"
            )
        return tensor

    def __getstate__(self) -> dict[str, Any]:
        """Leave the traces out: they hold code that cannot be pickled."""
        return {**self.__dict__, "traces": {}}
