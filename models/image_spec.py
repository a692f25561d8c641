"""Image input: how an image is decoded, resized, cropped and normalised."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from ..errors import InputError
from .input_spec import GraphInput, InputOverrides, InputSpec, Normalization, check_item_values

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
FitMode = Literal["shorter", "cover", "squash", "border"]
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
CHOICES = {
    "interpolation": INTERPOLATIONS,
    "fit": ("shorter", "cover", "squash", "border"),
    "orientation": ("exif", "stored"),
    "decode": ("exact", "fast"),
    "crop_rounding": ("round", "floor"),
}
"""Allowed values of the fields that have only a few."""


@dataclass(frozen=True)
class ImageSpec(InputSpec):
    """Preprocessing of an image model: decode, turn upright, resize, crop the centre, normalise.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image that enters the model, in pixels.
    resize : int or (int, int)
        Size of the image before the centre is cropped, in pixels. With ``fit="shorter"`` an int, its shorter side;
        otherwise height and width that the image is squashed to, covers ("cover") or just fits into ("border"). An int
        then is the shorter of the two, in the proportions of `size`.
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
    crop_rounding : {"round", "floor"}
        How the position of the crop is rounded to whole pixels: as in torchvision and timm, or as in transformers.
    crop_share : float, optional
        Share of the resized image that is kept, as the model's makers state it; it decides the resized image where
        another `size` is asked for. By default what `size` and `resize` come to.

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
    resize: int | tuple[int, int]
    fit: FitMode = "shorter"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    orientation: Literal["exif", "stored"] = "exif"
    decode: str = "exact"
    crop_rounding: Literal["round", "floor"] = "round"
    crop_share: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Convert numbers to plain types, so that equal specifications have equal digests, and check all fields."""
        # Convert.
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        object.__setattr__(self, "size", tuple(int(side) for side in _pair(self.size)))
        if min(self.size) > 0:
            object.__setattr__(self, "resize", self._simplify_resize())

        # Validate.
        if min(self.size) < 1 or min(self.resized_sides) < 1:
            raise InputError(f"size={self.size} and resize={self.resize}: expected positive numbers of pixels")
        check_item_values((3, *self.size))
        check_item_values((3, *self.resized_sides))
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name}={value!r}: expected one of {', '.join(allowed)}")
        check_per_channel("mean", self.mean)
        check_per_channel("std", self.std)
        if min(self.std) <= 0:
            raise InputError(f"std={self.std}: expected numbers above 0")
        if self.fit == "shorter" and isinstance(self.resize, tuple):
            raise InputError(f"resize={self.resize} with fit='shorter': expected an integer, the shorter side")

    def _simplify_resize(self) -> int | tuple[int, int]:
        """Return the size before the crop: an int if the pair follows from its shorter side."""
        if not isinstance(self.resize, (tuple, list)):
            return int(self.resize)
        height, width = (int(side) for side in self.resize)
        shorter = min(height, width)
        is_proportional = scale_sides(self.size, shorter) == (height, width)
        return shorter if is_proportional and self.fit != "shorter" else (height, width)

    @property
    def graph_inputs(self) -> tuple[GraphInput, ...]:
        """The pixels, uint8 ``(batch, height, width, 3)``."""
        return (GraphInput(self.input_name, "uint8", ("batch", *self.size, 3)),)

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one normalised image: channels, height, width."""
        return (3, *self.size)

    @property
    def is_square(self) -> bool:
        """Whether images enter the model as high as they are wide."""
        return self.size[0] == self.size[1]

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
        if self.crop_share is not None:
            return self.crop_share
        return min(self.size) / min(self.resized_sides)

    @property
    def resized_sides(self) -> tuple[int, int]:
        """Height and width before the crop of an image in the proportions of the input."""
        if isinstance(self.resize, tuple):
            return self.resize
        return scale_sides(self.size, self.resize)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after resizing an image, before the crop."""
        if isinstance(self.resize, int) and self.fit == "shorter":
            shorter = min(height, width)
            return max(1, int(self.resize * height / shorter)), max(1, int(self.resize * width / shorter))
        target_height, target_width = self.resized_sides
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
        named = ("mean", "std", "interpolation", "decode")
        replaced: dict[str, Any] = {name: getattr(changes, name) for name in named}
        replaced = {name: value for name, value in replaced.items() if value is not None}
        if changes.size is None and changes.crop is None:
            return replace(self, **replaced)
        share = self.crop_share if changes.crop is None else changes.crop
        if share is not None and not 0 < share <= 1:
            raise InputError(f"crop={share}: expected a share above 0 and at most 1")
        size = self.size if changes.size is None else _pair(changes.size)
        return self._with_size(size, share, replaced)

    def _with_size(self, size: tuple[int, int], share: float | None, replaced: dict[str, Any]) -> ImageSpec:
        """Return a copy for another size, of which a share is kept; as in timm, sides before the crop are rounded down.

        Without a share it is that of this specification. An input that is not square is filled.
        """
        if share is None:
            pairs = zip(size, self.resized_sides, self.size, strict=True)
            height, width = (side * resized // own for side, resized, own in pairs)
        else:
            height, width = (math.floor(side / share) for side in size)
        is_square = height == width
        fit = self.fit
        if fit == "shorter" and not is_square:
            fit = "cover"
        resize = height if is_square else (height, width)
        return replace(self, size=size, resize=resize, fit=fit, crop_share=share, **replaced)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary; what is as it always was in earlier versions is left out."""
        fields = super().to_json()
        del fields["crop_share"]
        if self.crop_rounding == "round":
            del fields["crop_rounding"]
        return fields


def scale_sides(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Return height and width in the proportions of a size, given the shorter of the two."""
    scale = shorter / min(size)
    return round(size[0] * scale), round(size[1] * scale)


def check_per_channel(name: str, values: tuple[float, ...]) -> None:
    """Raise an InputError if a field does not have one finite number per channel."""
    if len(values) != 3 or not all(math.isfinite(value) for value in values):
        raise InputError(f"{name}={values}: expected three finite numbers, one per channel (red, green, blue)")


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    return size[0], size[1]
