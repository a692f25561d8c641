"""The registry of backbone loaders: ``timm:resnet50`` is loaded by the module registered for ``timm``."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, MissingPackageError, name_similar
from .loader import BackboneLoader


@dataclass(frozen=True)
class LoaderEntry:
    """One registered loader: its module, relative to this package, and the package that it needs, if any.

    `example` is a name that it loads, `torch` says whether it makes PyTorch modules, and `extra` names the extra of
    topwork that installs the package, where it is not called like the package.
    """

    module: str
    package: str | None
    example: str
    torch: bool = True
    extra: str | None = None


LOADERS = {
    "topwork": LoaderEntry(".from_topwork", None, "topwork:tiny"),
    "timm": LoaderEntry(".from_timm", "timm", "timm:resnet50"),
    "torchvision": LoaderEntry(".from_torchvision", "torchvision", "torchvision:resnet18"),
    "hf": LoaderEntry(".from_hf", "transformers", "hf:facebook/dinov2-small", extra="hf"),
    "onnx": LoaderEntry(".from_onnx", None, "onnx:model.onnx", torch=False),
}
"""Loader of each backbone source, by the part of a name before the colon."""


def find_entry(backbone: str) -> tuple[LoaderEntry, str]:
    """Return the entry for a name such as ``timm:resnet50``, and the part after the colon."""
    scheme, _, name = backbone.partition(":")
    entry = LOADERS.get(scheme)
    if not name or entry is None:
        examples = ", ".join(entry.example for entry in LOADERS.values())
        similar = name_similar(scheme, LOADERS)
        raise InputError(f"backbone {backbone!r}: {similar}expected a source and a name, such as {examples}")
    return entry, name


def find_loader(backbone: str) -> tuple[BackboneLoader, str]:
    """Return the loader for a name such as ``timm:resnet50``, and the part after the colon."""
    entry, name = find_entry(backbone)
    require_package(entry.package, backbone, entry.extra)
    loader: Any = importlib.import_module(entry.module, __package__)
    return loader, name


def require_package(package: str | None, purpose: str, extra: str | None = None) -> None:
    """Raise an error that names the package to install if it is not available."""
    if package is not None and importlib.util.find_spec(package) is None:
        raise MissingPackageError(
            f"{purpose} needs the package {package}, which is not installed: pip install 'topwork[{extra or package}]'"
        )
