"""``topwork:tiny``: the built-in backbone, loaded from the package itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from .image_spec import ImageSpec
from .registry import Built
from .weights import load_weights

WEIGHTS = Path(__file__).parent / "tiny" / "weights.safetensors"
INPUT = ImageSpec(
    size=(32, 32), resize=32, interpolation="bicubic", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)
)


def build(name: str, *, pretrained: bool, model_args: dict[str, Any]) -> Built:
    """Make the built-in network."""
    from .tiny.network import TinyResNet

    if name != "tiny":
        raise InputError(f"backbone 'topwork:{name}' does not exist; topwork brings 'topwork:tiny'")
    if pretrained and model_args:
        raise InputError(f"topwork:tiny with its own weights takes no arguments, but got {sorted(model_args)}")
    module = TinyResNet(**model_args)
    if pretrained:
        load_weights(module, WEIGHTS)
    return Built(module, INPUT, classifier="fc")
