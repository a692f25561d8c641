"""``torchvision:NAME``: classification models of torchvision, with the preprocessing of their default weights."""

from __future__ import annotations

from typing import Any

from ..errors import InputError, name_similar
from .image_spec import ImageSpec
from .loader import BuiltModel, fetching
from .torchvision_operators import ensure_torchvision_operators

MODELS_THAT_SCALE = ("inception_v3", "googlenet")
"""Models that scale their normalised input anew if made with ``transform_input``, as their weights expect."""


def build(name: str, *, pretrained: bool, model_args: dict[str, Any]) -> BuiltModel:
    """Make a torchvision classification model."""
    ensure_torchvision_operators()
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        similar = name_similar(name, known)
        raise InputError(
            f"torchvision has no classification model {name!r}; {similar}see torchvision.models.list_models()"
        )
    weights = models.get_model_weights(name).DEFAULT
    if name in MODELS_THAT_SCALE:
        model_args = {"transform_input": True, **model_args}
    with fetching(f"torchvision:{name}", wanted=pretrained):
        module = models.get_model(name, weights=weights if pretrained else None, **model_args)
    return BuiltModel(module, image_spec(weights.transforms()), find_classifier(module))


def image_spec(preset: Any) -> ImageSpec:
    """Translate torchvision's ``ImageClassification`` preset into an input specification."""
    return ImageSpec(
        size=(preset.crop_size[0], preset.crop_size[-1]),
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def find_classifier(module: Any) -> str | None:
    """Return the name of the last layer with weights; torchvision's models end with their classifier."""
    from torch import nn

    names = [name for name, child in module.named_modules() if isinstance(child, (nn.Linear, nn.Conv2d))]
    return names[-1] if names else None
