"""Image input: how an image is decoded, resized, cropped and normalised."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..errors import InputError
from .input_spec import GraphInput, InputOverrides, InputSpec, Normalization

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
FitMode = Literal["shorter", "cover", "squash", "border"]
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
CHOICES = {
    "interpolation": INTERPOLATIONS,
    "fit": ("shorter", "cover", "squash", "border"),
    "orientation": ("exif", "stored"),
    "decode": ("exact", "fast"),
}
"""Allowed values of the fields that have only a few."""


@dataclass(frozen=True)
class ImageSpec(InputSpec):
    """Preprocessing of an image model: decode, turn upright, resize, crop the centre, normalise.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image that enters the model, in pixels.
    resize : int
        The image is resized to this many pixels before the centre is cropped: its shorter side, or with
        ``fit="squash"`` the longer of its two sides in the proportions of `size`, or with "cover" and "border" until
        it covers that size, or just fits into it.
    fit : {"shorter", "cover", "squash", "border"}
        Keep the proportions and crop the excess ("shorter", or "cover" for inputs that are not square); squash the
        image; or keep the proportions and add a border of the mean colour.
    interpolation : str
        A filter of Pillow: "nearest", "bilinear", "bicubic", "lanczos", "box", "hamming".
    mean, std : tuple of 3 floats
        Per channel, for pixels scaled to 0 .. 1. Applied inside the graph.
    orientation : {"exif", "stored"}
        Turn photographs upright according to their EXIF tag, or leave the pixels as they are stored (except TIFF, which
        Pillow always turns).
    decode : {"exact", "fast"}
        Every pixel as Pillow decodes it; or JPEG files at a half, a quarter or an eighth of their size, where that is
        still no smaller than the resized image. Features then differ slightly for large photographs.

    Examples
    --------
    >>> ImageSpec(size=(224, 224), resize=256).crop
    0.875
    """

    kind: ClassVar[str] = "image"
    color_axis: ClassVar[int | None] = -1
    overrides: ClassVar[tuple[str, ...]] = ("mean", "std", "size", "crop", "interpolation", "decode")
    input_name: ClassVar[str] = "image"
    """Name of the graph's input."""

    size: tuple[int, int]
    resize: int
    fit: FitMode = "shorter"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    orientation: Literal["exif", "stored"] = "exif"
    decode: str = "exact"

    def __post_init__(self) -> None:
        """Convert numbers to plain types, so that equal specifications have equal digests, and check all fields."""
        # Convert.
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        object.__setattr__(self, "size", tuple(int(side) for side in _pair(self.size)))
        object.__setattr__(self, "resize", int(self.resize))

        # Validate.
        if min(self.size) < 1 or self.resize < 1:
            raise InputError(f"size={self.size} and resize={self.resize}: expected positive numbers of pixels")
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name}={value!r}: expected one of {', '.join(allowed)}")
        check_per_channel("mean", self.mean)
        check_per_channel("std", self.std)
        if min(self.std) <= 0:
            raise InputError(f"std={self.std}: expected numbers above 0")

    @property
    def graph_inputs(self) -> tuple[GraphInput, ...]:
        """The pixels, uint8 ``(batch, height, width, 3)``."""
        return (GraphInput(self.input_name, "uint8", ("batch", *self.size, 3)),)

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one normalised image: channels, height, width."""
        return (3, *self.size)

    @property
    def normalization(self) -> Normalization:
        """Mean and standard deviation per channel."""
        return Normalization(self.mean, self.std)

    @property
    def fill(self) -> tuple[int, ...]:
        """Colour around an image that is smaller than the input: black, or the mean colour with ``fit="border"``."""
        if self.fit == "border":
            return tuple(round(255 * value) for value in self.mean)
        return (0, 0, 0)

    @property
    def crop(self) -> float:
        """Share of the resized image's shorter side that is kept."""
        return min(self.size) / self.resize

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after resizing an image, before the crop."""
        if self.fit == "shorter":
            shorter = min(height, width)
            return max(1, int(self.resize * height / shorter)), max(1, int(self.resize * width / shorter))

        # The other ways to fit start from the input's size, enlarged as much as `resize` exceeds its shorter side.
        scale = self.resize / min(self.size)
        target_height, target_width = (round(side * scale) for side in self.size)
        if self.fit == "squash":
            return target_height, target_width
        ratios = (height / target_height, width / target_width)
        ratio = max(ratios) if self.fit == "border" else min(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def with_exact_decoding(self) -> ImageSpec:
        """Return a copy that decodes every pixel."""
        return replace(self, decode="exact")

    def override(self, changes: InputOverrides) -> ImageSpec:
        """Return a copy with the user's changes; a new size keeps the share that is cropped."""
        changes.require_only(*self.overrides, kind=self.kind)
        size = self.size if changes.size is None else _pair(changes.size)
        replaced: dict[str, Any] = {"size": size, "resize": choose_resize(self, size, changes.crop)}
        for name in ("mean", "std", "interpolation", "decode"):
            value = getattr(changes, name)
            if value is not None:
                replaced[name] = value
        return replace(self, **replaced)


def choose_resize(spec: ImageSpec, size: tuple[int, int], crop: float | None) -> int:
    """Return the size before the crop to a new size, which keeps the specification's share or a new one."""
    if crop is None:
        return min(size) * spec.resize // min(spec.size)
    if 0 < crop <= 1:
        return math.floor(min(size) / crop)
    raise InputError(f"crop={crop}: expected a share above 0 and at most 1")


def check_per_channel(name: str, values: tuple[float, ...]) -> None:
    """Raise an InputError if a field does not have one finite number per channel."""
    if len(values) != 3 or not all(math.isfinite(value) for value in values):
        raise InputError(f"{name}={values}: expected three finite numbers, one per channel (red, green, blue)")


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    return size[0], size[1]
