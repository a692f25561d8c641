"""Sources of backbones by name: ``timm:resnet50`` is loaded by the module registered for ``timm``."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InputError, MissingPackageError
from .backbone import DEFAULT_TOLERANCE
from .input_spec import InputSpec
from .weights import load_weights

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Built:
    """What a source returns: a network and what its makers say about it.

    Parameters
    ----------
    network : torch.nn.Module or Path
        A module, or an ONNX file.
    input_spec : ImageSpec, TextSpec, TensorSpec or None
        The network's own preprocessing; None if it cannot be known.
    classifier, pooling, tolerance
        As in :class:`topwork.models.torch_backbone.TorchBackbone`.
    architecture : str
        What identifies the architecture, where the name that was asked for does not.
    arguments : dict
        What decides the network beyond the arguments that the user gave, such as a configuration file.
    load_weights : callable
        Copies a file of weights into the network.
    unknown : tuple of str
        What of the preprocessing the user must state, because the network does not say.
    complaint : str
        Why there is no input specification.
    """

    network: nn.Module | Path
    input_spec: InputSpec | None
    classifier: str | None = None
    pooling: str = ""
    tolerance: float = DEFAULT_TOLERANCE
    architecture: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    load_weights: Callable[[Any, Path], None] = load_weights
    unknown: tuple[str, ...] = ()
    complaint: str = ""


class Source(Protocol):
    """What the module of a source defines."""

    def build(self, name: str, *, pretrained: bool, model_args: dict[str, Any]) -> Built:
        """Make the network called `name`, with pre-trained weights or with random ones."""


@dataclass(frozen=True)
class Entry:
    """Where the loader of a source lives, which package and extra it needs, whether it makes PyTorch modules."""

    module: str
    package: str | None
    example: str
    torch: bool = True
    extra: str | None = None


SOURCES = {
    "topwork": Entry(".from_topwork", None, "topwork:tiny"),
    "timm": Entry(".from_timm", "timm", "timm:resnet50"),
    "torchvision": Entry(".from_torchvision", "torchvision", "torchvision:resnet18"),
    "hf": Entry(".from_hf", "transformers", "hf:facebook/dinov2-small", extra="hf"),
    "onnx": Entry(".from_onnx", None, "onnx:model.onnx", torch=False),
}


def find_entry(backbone: str) -> tuple[Entry, str]:
    """Return the entry for a name such as ``timm:resnet50``, and the part after the colon."""
    scheme, colon, name = backbone.partition(":")
    entry = SOURCES.get(scheme)
    if not colon or not name or entry is None:
        examples = ", ".join(e.example for e in SOURCES.values())
        raise InputError(f"backbone {backbone!r}: expected a source and a name, such as {examples}")
    return entry, name


def find_source(backbone: str) -> tuple[Source, str]:
    """Return the loader for a name such as ``timm:resnet50``, and the part after the colon."""
    entry, name = find_entry(backbone)
    require_package(entry.package, backbone, entry.extra)
    source: Any = importlib.import_module(entry.module, __package__)
    return source, name


def require_package(package: str | None, purpose: str, extra: str | None = None) -> None:
    """Raise an error that names the package to install if it is not there."""
    if package is not None and importlib.util.find_spec(package) is None:
        raise MissingPackageError(
            f"{purpose} needs the package {package}, which is not installed: pip install 'topwork[{extra or package}]'"
        )
