"""Resize and crop exactly as Pillow does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...models.image_spec import ImageSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
MAX_RESIZED_PIXELS = 16_000_000
"""Size of the resized image beyond which only the crop is computed: a ribbon of 5,000 x 1 would fill a gigabyte."""


@dataclass(frozen=True)
class Span:
    """The part of one axis of a resized image that is kept.

    The axis has `original` pixels before and `resized` pixels after resizing, by which `start` and `length` count.
    """

    original: int
    resized: int
    start: int
    length: int

    @classmethod
    def in_centre(cls, original: int, resized: int, wanted: int, rounding: str = "round") -> Span:
        """Return the centre of an axis, at most as long as it is.

        The start is rounded to the nearest even number as in torchvision, or down ("floor") as in transformers.
        """
        if resized < wanted:
            return cls(original, resized, start=0, length=resized)
        excess = resized - wanted
        start = excess // 2 if rounding == "floor" else round(excess / 2)
        return cls(original, resized, start=start, length=wanted)

    @property
    def end(self) -> int:
        """End of the part that is kept, in pixels of the resized image."""
        return self.start + self.length

    @property
    def original_bounds(self) -> tuple[float, float]:
        """Start and end of the part that is kept, in pixels of the original image."""
        scale = self.original / self.resized
        return self.start * scale, self.end * scale


def to_pixels(image: Image.Image, spec: ImageSpec) -> NDArray[np.uint8]:
    """Resize an RGB image, crop its centre, and return pixels: uint8 ``(height, width, 3)`` of the model's input."""
    height, width = spec.size
    resized_height, resized_width = spec.resized(image.height, image.width)
    across = Span.in_centre(image.width, resized_width, wanted=width, rounding=spec.crop_rounding)
    down = Span.in_centre(image.height, resized_height, wanted=height, rounding=spec.crop_rounding)
    if spec.decode == "fast" or resized_height * resized_width > MAX_RESIZED_PIXELS:
        cropped = resize_crop(image, across, down, FILTERS[spec.interpolation])
    else:
        cropped = resize_exactly(image, across, down, FILTERS[spec.interpolation])
    pixels = np.asarray(cropped)
    return pixels if pixels.shape[:2] == spec.size else place_in_centre(pixels, spec)


def resize_crop(image: Image.Image, across: Span, down: Span, resampling: Image.Resampling) -> Image.Image:
    """Resize only the columns and rows that are kept, one axis after the other.

    Rounding differs from that of a whole resize by one level at most.
    """
    left, right = across.original_bounds
    top, bottom = down.original_bounds
    if across.length * image.height > MAX_RESIZED_PIXELS:  # the rows first, of an image as narrow as a line
        rows = image.resize((image.width, down.length), resampling, box=(0, top, image.width, bottom))
        return rows.resize((across.length, down.length), resampling, box=(left, 0, right, down.length))
    columns = image.resize((across.length, image.height), resampling, box=(left, 0, right, image.height))
    return columns.resize((across.length, down.length), resampling, box=(0, top, across.length, bottom))


def resize_exactly(image: Image.Image, across: Span, down: Span, resampling: Image.Resampling) -> Image.Image:
    """Return the centre of a whole resize; columns that are not kept are dropped before the rows are resized.

    That changes no pixel where Pillow resizes the columns first, too. From version 13 on it takes the rows first if an
    image is much higher than wide, or shrinks much more in height, so only the other ones are resized in two steps.
    """
    is_wide = image.width >= image.height
    shrinks_most_across = across.original * down.resized >= down.original * across.resized
    is_cropped = across.length < across.resized
    if is_wide and shrinks_most_across and is_cropped:
        columns = image.resize((across.resized, image.height), resampling)
        kept = columns.crop((across.start, 0, across.end, image.height))
        rows = kept.resize((across.length, down.resized), resampling)
        return rows.crop((0, down.start, across.length, down.end))
    resized = image.resize((across.resized, down.resized), resampling)
    return resized.crop((across.start, down.start, across.end, down.end))


def place_in_centre(pixels: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.uint8]:
    """Put an image that is smaller than the crop in the centre of one colour."""
    height, width = spec.size
    rows, columns = pixels.shape[:2]
    top = (height - rows) // 2
    left = (width - columns) // 2
    if spec.crop_rounding == "floor":  # of a negative number
        top = -((rows - height) // 2)
        left = -((columns - width) // 2)
    canvas = np.full((height, width, 3), spec.fill, np.uint8)
    canvas[top : top + rows, left : left + columns] = pixels
    return canvas
