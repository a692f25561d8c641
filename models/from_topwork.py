"""``topwork:tiny``: the built-in backbone, loaded from the package itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from .image_spec import ImageSpec
from .loader import BuiltModel
from .tiny import CIFAR10_MEAN, CIFAR10_STD
from .weights import load_weights

WEIGHTS_FILE = Path(__file__).parent / "tiny" / "weights.safetensors"
INPUT_SPEC = ImageSpec(
    size=(32, 32),
    resize=32,
    interpolation="bicubic",
    mean=CIFAR10_MEAN,
    std=CIFAR10_STD,
)


def build(name: str, *, pretrained: bool, model_args: dict[str, Any]) -> BuiltModel:
    """Make the built-in model."""
    from .tiny.network import TinyResNet

    if name != "tiny":
        raise InputError(f"backbone 'topwork:{name}' does not exist; topwork provides 'topwork:tiny'")
    if pretrained and model_args:
        raise InputError(f"topwork:tiny with its own weights takes no arguments, but got {sorted(model_args)}")
    module = TinyResNet(**model_args)
    if pretrained:
        load_weights(module, WEIGHTS_FILE)
    return BuiltModel(module, INPUT_SPEC, classifier="fc")
