"""``timm:NAME``: image models of PyTorch Image Models, with their own preprocessing."""

from __future__ import annotations

import difflib
import math
from typing import Any, Literal

from ..errors import InputError
from .hub import fetching
from .image_spec import ImageSpec
from .registry import Built
from .torchvision_operators import ensure_torchvision_operators

FITS: dict[str, Literal["shorter", "squash", "border"]] = {"center": "shorter", "squash": "squash", "border": "border"}
"""timm's crop modes, as an input specification names them."""


def build(name: str, *, pretrained: bool, model_args: dict[str, Any]) -> Built:
    """Make a timm model."""
    ensure_torchvision_operators()
    import timm

    architecture = name.partition(".")[0]
    if not name.startswith(("hf-hub:", "hf_hub:", "local-dir:")) and not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        raise InputError(
            f"timm has no model {name!r}; {'close: ' + ', '.join(near) if near else 'see timm.list_models()'}"
        )
    with fetching(f"timm:{name}", wanted=pretrained):
        module = timm.create_model(name, pretrained=pretrained, **model_args)
    config = timm.data.resolve_model_data_config(module)
    if "img_size" in model_args:  # timm keeps the size of the pre-trained weights in its configuration
        config["input_size"] = (3, *_pair(model_args["img_size"]))
    return Built(module, image_spec(config), classifier_name(module))


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def image_spec(config: dict[str, Any]) -> ImageSpec:
    """Translate timm's data configuration (its evaluation transform) into an input specification."""
    channels, height, width = config["input_size"]
    if channels != 3:
        raise InputError(f"this model takes {channels} channels; an image backbone takes 3 (red, green, blue)")
    if config["crop_mode"] not in FITS:
        raise InputError(f"this model asks for crop mode {config['crop_mode']!r}; known are {', '.join(FITS)}")
    return ImageSpec(
        size=(height, width),
        resize=math.floor(min(height, width) / config["crop_pct"]),
        fit="cover" if config["crop_mode"] == "center" and height != width else FITS[config["crop_mode"]],
        interpolation="bilinear" if config["interpolation"] == "random" else config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def classifier_name(module: Any) -> str | None:
    """Return the dotted name of a timm model's classifier, "" if it was made without one."""
    import torch

    classifier = module.get_classifier() if hasattr(module, "get_classifier") else None
    if isinstance(classifier, (tuple, list)):
        classifier = classifier[0]
    if classifier is None or isinstance(classifier, torch.nn.Identity):
        return ""
    return next((name for name, child in module.named_modules() if child is classifier), None)
