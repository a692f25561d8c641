"""``timm:NAME``: image models of PyTorch Image Models, with their own preprocessing."""

from __future__ import annotations

import math
from typing import Any

from ..errors import InputError, name_similar
from .image_spec import FitMode, ImageSpec
from .loader import BuiltModel, fetching
from .torchvision_operators import ensure_torchvision_operators

FIT_OF_CROP_MODE: dict[str, FitMode] = {
    "center": "shorter",
    "squash": "squash",
    "border": "border",
}
"""timm's crop modes, as an input specification names them."""


def build(name: str, *, pretrained: bool, model_args: dict[str, Any]) -> BuiltModel:
    """Make a timm model."""
    ensure_torchvision_operators()
    import timm

    check_exists(name)
    with fetching(f"timm:{name}", wanted=pretrained):
        module = timm.create_model(name, pretrained=pretrained, **model_args)
    config = timm.data.resolve_model_data_config(module)
    if "img_size" in model_args:  # timm keeps the size of the pre-trained weights in its configuration
        size = model_args["img_size"]
        height, width = (size, size) if isinstance(size, int) else size[:2]
        config["input_size"] = (3, height, width)
    return BuiltModel(module, image_spec(config), find_classifier(module))


def check_exists(name: str) -> None:
    """Raise an InputError, with similar names, if timm has no architecture of this name."""
    import timm

    if name.startswith(("hf-hub:", "hf_hub:", "local-dir:")):
        return
    architecture, _, tag = name.partition(".")
    if timm.is_model(architecture):
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
        if tag and tag not in tags:
            raise InputError(
                f"timm has no weights {tag!r} of {architecture}; expected {architecture} alone (with local or random "
                f"weights), or with one of: {', '.join(tags) or 'none'}"
            )
        return
    similar = name_similar(architecture, timm.list_models())
    raise InputError(f"timm has no model {name!r}; {similar}see timm.list_models()")


def check_config(config: dict[str, Any]) -> None:
    """Raise an InputError if the input is not of three channels, or cropped in an unknown way."""
    channels = config["input_size"][0]
    crop_mode = config["crop_mode"]
    if channels != 3:
        raise InputError(f"this model takes {channels} channels; an image backbone takes 3 (red, green, blue)")
    if crop_mode not in FIT_OF_CROP_MODE:
        raise InputError(f"this model asks for crop mode {crop_mode!r}; known are {', '.join(FIT_OF_CROP_MODE)}")


def image_spec(config: dict[str, Any]) -> ImageSpec:
    """Translate timm's data configuration (its evaluation transform) into an input specification."""
    check_config(config)
    _, height, width = config["input_size"]
    fit = FIT_OF_CROP_MODE[config["crop_mode"]]
    if fit == "shorter" and height != width:
        fit = "cover"
    interpolation = config["interpolation"]
    if interpolation == "random":
        interpolation = "bilinear"
    crop_share = config["crop_pct"]
    resized = (math.floor(height / crop_share), math.floor(width / crop_share))
    return ImageSpec(
        size=(height, width),
        resize=resized[0] if height == width else resized,
        fit=fit,
        interpolation=interpolation,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_share=crop_share,
    )


def find_classifier(module: Any) -> str | None:
    """Return the dotted name of a timm model's classifier, "" if it was made without one."""
    import torch

    classifier = module.get_classifier() if hasattr(module, "get_classifier") else None
    if isinstance(classifier, (tuple, list)):
        classifier = classifier[0]
    if classifier is None or isinstance(classifier, torch.nn.Identity):
        return ""
    names = [name for name, child in module.named_modules() if child is classifier]
    return names[0] if names else None
