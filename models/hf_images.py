"""How a transformers model prepares its images, as the model's own image processor states it.

The processor's class decides what a field means (a number as ``size`` is the shorter edge for CLIP, and both sides for
ViT) and what holds where the file is silent. Therefore transformers itself reads the files, whichever version wrote
them, and the processor that it makes is translated here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, reason
from .hf_files import read_json, refuse_code
from .image_spec import FitMode, ImageSpec

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers of its filters."""
UNSUPPORTED_STEPS = (
    "do_flip_channel_order",
    "do_thumbnail",
    "do_align_long_axis",
    "do_pad",
    "keep_aspect_ratio",
    "do_pan_and_scan",
    "crop_to_patches",
    "do_grayscale",
)
"""Steps of some image processors that an input specification cannot express."""
DEFAULT_IMAGE_SIDE = 224
SQUASHED_CONVNEXT_SIDE = 384
"""ConvNeXt's processor enlarges smaller images before it crops, and squashes images of this size and larger."""
LEVIT_ENLARGEMENT = 256 / 224
"""Levit's processor resizes to so many times the size that its file states."""


@dataclass(frozen=True)
class Geometry:
    """Size of the input, size before the crop, and how an image is fitted to it; see :class:`ImageSpec`."""

    size: tuple[int, int]
    resize: int | tuple[int, int]
    fit: FitMode


def image_spec(name: str, config: Any) -> tuple[ImageSpec, tuple[str, ...]]:
    """Return the input specification of a folder or an ID of the hub, and the fields that no file states.

    For these the specification has provisional values. Raise an InputError if the processor does what topwork does not
    reproduce, or if it cannot be made.
    """
    fields = read_processor_fields(name)
    if fields is None:
        side = getattr(config, "image_size", None) or DEFAULT_IMAGE_SIDE
        height, width = side if isinstance(side, (list, tuple)) else (side, side)
        return ImageSpec(size=(height, width), resize=min(height, width)), ("mean", "std")
    for file in PROCESSOR_FILES:
        refuse_code(name, file)
    processor = load_processor(name)
    geometry = read_geometry(name, processor)
    check_steps(name, processor)
    mean, std = read_normalization(processor)
    is_cropped = geometry.fit == "shorter" or geometry.size != geometry.resize
    spec = ImageSpec(
        size=geometry.size,
        resize=geometry.resize,
        fit=geometry.fit,
        interpolation=FILTERS[int(processor.resample)],
        mean=mean,
        std=std,
        crop_rounding="floor" if is_cropped else "round",
    )
    return spec, list_unstated(fields, processor)


def read_processor_fields(name: str) -> dict[str, Any] | None:
    """Return what a model's files state of its image processor, None if there is no such file."""
    own_file, common_file = PROCESSOR_FILES
    fields: dict[str, Any] | None = read_json(name, own_file)
    if fields is None:
        fields = (read_json(name, common_file) or {}).get("image_processor")
    return fields


def list_unstated(fields: dict[str, Any], processor: Any) -> tuple[str, ...]:
    """Return the fields of an input specification that no file states: a class's defaults may not be its weights'."""
    needed = {"interpolation": "resample"}
    if processor.do_normalize:
        needed |= {"mean": "image_mean", "std": "image_std"}
    return tuple(name for name, field in needed.items() if not isinstance(fields.get(field), (int, float, list)))


def load_processor(name: str) -> Any:
    """Return the image processor that transformers makes of a model's files, the one that runs Pillow."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(name, backend="pil", trust_remote_code=False)
    except Exception as error:
        raise InputError(
            f"transformers cannot make the image processor of hf:{name}: {reason(error)}; expected a "
            f"{' or '.join(PROCESSOR_FILES)} that it reads. Pass input_spec=ImageSpec(…) to state the preparation."
        ) from error


def read_geometry(name: str, processor: Any) -> Geometry:
    """Return the sizes of a processor; raise an InputError if its class resizes in a way of its own."""
    kind = type(processor).__name__.removesuffix("Pil").removesuffix("Fast")
    if kind not in GEOMETRIES:
        raise InputError(
            f"hf:{name} prepares its images by a {kind}, which topwork does not reproduce; pass "
            "input_spec=ImageSpec(…) to state the preparation"
        )
    if not processor.do_resize:
        raise InputError(
            f"hf:{name} takes images as large as they are (do_resize=false), which topwork does not reproduce; pass "
            "input_spec=ImageSpec(…) to state a size"
        )
    geometry = GEOMETRIES[kind](processor)
    if geometry is None:
        raise InputError(
            f"hf:{name} prepares its images with size={dict(processor.size)} and crop_size={processor.crop_size}, "
            "which topwork does not reproduce; pass input_spec=ImageSpec(…) to state the preparation"
        )
    return geometry


def read_plain_geometry(processor: Any) -> Geometry | None:
    """Return the sizes of a processor that resizes, then crops the centre; None for sizes of another kind."""
    size = processor.size
    crop = read_crop(processor)
    if size.height and size.width:
        resized = (size.height, size.width)
        return Geometry(crop or resized, resized, "squash")
    if size.shortest_edge and not size.longest_edge and crop is not None:
        return Geometry(crop, size.shortest_edge, "shorter")
    return None


def read_crop(processor: Any) -> tuple[int, int] | None:
    """Return height and width of the crop, None if nothing is cropped."""
    crop = processor.crop_size
    if not processor.do_center_crop or crop is None:
        return None
    return crop.height, crop.width


def read_squash_geometry(processor: Any) -> Geometry | None:
    """Return the sizes of a processor that resizes to stated sides, or to multiples near these, and never crops."""
    size = processor.size
    if processor.do_center_crop or not (size.height and size.width):
        return None
    multiple = getattr(processor, "ensure_multiple_of", 1) or 1
    height = round(size.height / multiple) * multiple
    width = round(size.width / multiple) * multiple
    return Geometry((height, width), (height, width), "squash")


def read_levit_geometry(processor: Any) -> Geometry | None:
    """Return the sizes of Levit's processor, which enlarges the stated size."""
    edge = processor.size.shortest_edge
    crop = read_crop(processor)
    if edge is None or crop is None:
        return read_plain_geometry(processor)
    return Geometry(crop, int(LEVIT_ENLARGEMENT * edge), "shorter")


def read_convnext_geometry(processor: Any) -> Geometry | None:
    """Return the sizes of ConvNeXt's processor, which crops small inputs by a share and squashes large ones."""
    edge = processor.size.shortest_edge
    if edge is None or processor.do_center_crop:
        return None
    if edge >= SQUASHED_CONVNEXT_SIDE:
        return Geometry((edge, edge), (edge, edge), "squash")
    return Geometry((edge, edge), int(edge / processor.crop_pct), "shorter")


def read_poolformer_geometry(processor: Any) -> Geometry | None:
    """Return the sizes of PoolFormer's processor, which resizes to a multiple of the stated size before the crop."""
    size = processor.size
    crop = read_crop(processor)
    if processor.crop_pct is None:
        return read_plain_geometry(processor)
    edge = size.shortest_edge or (size.height if size.height == size.width else None)
    if edge is None or crop is None:
        return None
    return Geometry(crop, int(edge / processor.crop_pct), "shorter")


PLAIN_PROCESSORS = (
    "BeitImageProcessor",
    "BitImageProcessor",
    "BlipImageProcessor",
    "CLIPImageProcessor",
    "ChameleonImageProcessor",
    "ChineseCLIPImageProcessor",
    "DeiTImageProcessor",
    "EfficientNetImageProcessor",
    "FlavaImageProcessor",
    "LlavaImageProcessor",
    "MobileNetV1ImageProcessor",
    "MobileNetV2ImageProcessor",
    "MobileViTImageProcessor",
    "OwlViTImageProcessor",
    "PvtImageProcessor",
    "SegformerImageProcessor",
    "SiglipImageProcessor",
    "ViTImageProcessor",
)
"""Classes that resize, crop the centre and normalise, and nothing else; a test compares each with the class itself."""
SQUASHING_PROCESSORS = (
    "DPTImageProcessor",
    "Gemma3ImageProcessor",
    "GotOcr2ImageProcessor",
    "Ovis2ImageProcessor",
    "PPChart2TableImageProcessor",
    "PromptDepthAnythingImageProcessor",
    "RTDetrImageProcessor",
    "SegGptImageProcessor",
    "SuperPointImageProcessor",
)
"""Classes that resize and normalise, and crop nothing."""
GEOMETRIES: dict[str, Callable[[Any], Geometry | None]] = {
    **dict.fromkeys(PLAIN_PROCESSORS, read_plain_geometry),
    **dict.fromkeys(SQUASHING_PROCESSORS, read_squash_geometry),
    "ConvNextImageProcessor": read_convnext_geometry,
    "LevitImageProcessor": read_levit_geometry,
    "PoolFormerImageProcessor": read_poolformer_geometry,
}
"""How the sizes of each class of processors are read."""


def check_steps(name: str, processor: Any) -> None:
    """Raise an InputError if a processor does what an input specification cannot express."""
    unsupported = [step for step in UNSUPPORTED_STEPS if getattr(processor, step, False)]
    if unsupported:
        raise InputError(
            f"hf:{name} prepares its images by {', '.join(unsupported)}, which topwork does not reproduce; "
            "pass input_spec=ImageSpec(…) to state the preparation"
        )


def read_normalization(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation for pixels from 0 to 1, whatever the processor scales them to."""
    scale = 255 * processor.rescale_factor if processor.do_rescale else 255.0
    offset = 1.0 if getattr(processor, "rescale_offset", False) and processor.do_rescale else 0.0
    own_std = per_channel(1.0 if processor.image_std is None else processor.image_std)
    mean = per_channel(0.0)
    std = per_channel(1.0)
    if processor.do_normalize:
        mean = per_channel(0.0 if processor.image_mean is None else processor.image_mean)
        std = own_std
    if getattr(processor, "include_top", False):  # EfficientNet's processor divides once more
        std = tuple(first * second for first, second in zip(std, own_std, strict=True))
    return tuple((value + offset) / scale for value in mean), tuple(value / scale for value in std)


def per_channel(values: float | Sequence[float]) -> tuple[float, ...]:
    """Return a value for each of three channels."""
    if isinstance(values, (int, float)):
        return (float(values),) * 3
    return tuple(values)
