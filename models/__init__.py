"""Where a backbone comes from: a loader for each source, its input specification, the built-in default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .audio_spec import AudioSpec
    from .backbone import Backbone, OnnxBackbone, TorchBackbone
    from .image_spec import ImageSpec
    from .input_spec import InputOverrides
    from .loading import BackboneSpec, load_backbone
    from .tensor_spec import TensorSpec
    from .text_spec import TextSpec

__all__ = [
    "AudioSpec",
    "Backbone",
    "BackboneSpec",
    "ImageSpec",
    "InputOverrides",
    "OnnxBackbone",
    "TensorSpec",
    "TextSpec",
    "TorchBackbone",
    "load_backbone",
]

__getattr__, __dir__, _ = lazy_exports(
    __name__,
    {
        "AudioSpec": ".audio_spec",
        "Backbone": ".backbone",
        "BackboneSpec": ".loading",
        "ImageSpec": ".image_spec",
        "InputOverrides": ".input_spec",
        "OnnxBackbone": ".backbone",
        "TensorSpec": ".tensor_spec",
        "TextSpec": ".text_spec",
        "TorchBackbone": ".backbone",
        "load_backbone": ".loading",
    },
)
