"""Resize and crop exactly as Pillow does."""

from __future__ import annotations

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


LARGEST_RESIZED = 16_000_000
"""Pixels of the resized image beyond which only the crop is computed: a ribbon of 5,000 x 1 would fill a gigabyte."""


def to_pixels(image: Image.Image, spec: ImageSpec) -> NDArray[np.uint8]:
    """Resize an image, crop its centre, and return its pixels.

    Parameters
    ----------
    image : PIL.Image.Image
        In mode RGB.
    spec : ImageSpec
        Sizes and filter.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        Height and width as the specification says.

    Examples
    --------
    >>> to_pixels(Image.new("RGB", (300, 200)), ImageSpec(size=(224, 224), resize=256)).shape
    (224, 224, 3)
    """
    height, width = spec.size
    resized_height, resized_width = spec.resized(image.height, image.width)
    left, columns = _crop(resized_width, width)
    top, rows = _crop(resized_height, height)
    if spec.decode == "fast" or resized_height * resized_width > LARGEST_RESIZED:
        cropped = _only_the_crop(image, spec, (resized_width, resized_height), (left, top, columns, rows))
    else:
        resized = image.resize((resized_width, resized_height), FILTERS[spec.interpolation])
        cropped = resized.crop((left, top, left + columns, top + rows))
    pixels = np.asarray(cropped)
    return pixels if (rows, columns) == (height, width) else _centred(pixels, spec)


def _crop(resized: int, size: int) -> tuple[int, int]:
    """Return the start and length of the part that is kept; the rounding is torchvision's."""
    return (round((resized - size) / 2), size) if resized >= size else (0, resized)


def _only_the_crop(
    image: Image.Image, spec: ImageSpec, resized: tuple[int, int], crop: tuple[int, int, int, int]
) -> Image.Image:
    """Resize the rows of the crop, then its columns; rounding differs from a whole resize by a level here and there."""
    kind, (left, top, columns, rows) = FILTERS[spec.interpolation], crop
    across, down = image.width / resized[0], image.height / resized[1]
    if columns * image.height > LARGEST_RESIZED:  # of an image as narrow as a line
        middle = image.resize((image.width, rows), kind, box=(0, top * down, image.width, (top + rows) * down))
        return middle.resize((columns, rows), kind, box=(left * across, 0, (left + columns) * across, rows))
    middle = image.resize(
        (columns, image.height), kind, box=(left * across, 0, (left + columns) * across, image.height)
    )
    return middle.resize((columns, rows), kind, box=(0, top * down, columns, (top + rows) * down))


def _centred(pixels: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.uint8]:
    """Put an image that is smaller than the crop in the centre of one colour."""
    height, width = spec.size
    canvas = np.full((height, width, 3), spec.fill, np.uint8)
    top, left = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas
