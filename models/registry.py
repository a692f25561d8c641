"""Sources of backbones by name: ``timm:resnet50`` is loaded by the module registered for ``timm``."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InputError, MissingPackageError
from .input_spec import ImageSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Built:
    """What a source returns: a network with its own preprocessing and the name of its classifier."""

    module: nn.Module
    input_spec: ImageSpec
    classifier: str | None


class Source(Protocol):
    """What the module of a source defines."""

    def build(self, name: str, *, pretrained: bool, model_args: dict[str, Any]) -> Built:
        """Make the network called `name`, with pre-trained weights or with random ones."""


@dataclass(frozen=True)
class Entry:
    """Where the loader of a source lives and which package it needs."""

    module: str
    package: str | None
    example: str


SOURCES = {
    "topwork": Entry(".from_topwork", None, "topwork:tiny"),
    "timm": Entry(".from_timm", "timm", "timm:resnet50"),
    "torchvision": Entry(".from_torchvision", "torchvision", "torchvision:resnet18"),
}


def find_source(backbone: str) -> tuple[Source, str]:
    """Return the loader for a name such as ``timm:resnet50``, and the part after the colon."""
    scheme, colon, name = backbone.partition(":")
    entry = SOURCES.get(scheme)
    if not colon or not name or entry is None:
        examples = ", ".join(e.example for e in SOURCES.values())
        raise InputError(f"backbone {backbone!r}: expected a source and a name, such as {examples}")
    require_package(entry.package, backbone)
    source: Any = importlib.import_module(entry.module, __package__)
    return source, name


def require_package(package: str | None, purpose: str) -> None:
    """Raise an error that names the package to install if it is not there."""
    if package is not None and importlib.util.find_spec(package) is None:
        raise MissingPackageError(
            f"{purpose} needs the package {package}, which is not installed: pip install 'topwork[{package}]'"
        )
