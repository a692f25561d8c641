"""Resize and crop as resize-then-crop would, computing only the pixels that are kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..models.input_spec import ImageSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILTERS = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR,
           "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS,
           "box": Image.Resampling.BOX, "hamming": Image.Resampling.HAMMING}
SUPPORT = {"nearest": 1.0, "bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0, "box": 0.5, "hamming": 1.0}


def to_pixels(image: Image.Image, spec: ImageSpec) -> NDArray[np.uint8]:
    """Resize an image, crop its centre, and return its pixels.

    Pillow's ``resize`` works on rows, then on columns. Here each pass gets its own box, so that only the crop is
    computed; one call with one box would differ, as it rounds in another place.

    Parameters
    ----------
    image : PIL.Image.Image
        In mode RGB.
    spec : ImageSpec
        Sizes and filter.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)

    Examples
    --------
    >>> to_pixels(Image.new("RGB", (300, 200)), ImageSpec(size=(224, 224), resize=256)).shape
    (224, 224, 3)
    """
    height, width = spec.size
    resized_height, resized_width = spec.resized(image.height, image.width)
    left, columns = _crop(resized_width, width)
    top, rows = _crop(resized_height, height)
    if spec.interpolation == "nearest":
        small = image.resize((resized_width, resized_height), FILTERS["nearest"])
        small = small.crop((left, top, left + columns, top + rows))
    else:
        small = _two_passes(image, spec, (resized_width, resized_height), (left, top, columns, rows))
    pixels = np.asarray(small)
    return pixels if (rows, columns) == (height, width) else _centred(pixels, height, width)


def _crop(resized: int, size: int) -> tuple[int, int]:
    """Return the start and length of the part that is kept; the rounding is torchvision's."""
    return (round((resized - size) / 2), size) if resized >= size else (0, resized)


def _two_passes(image: Image.Image, spec: ImageSpec, resized: tuple[int, int], crop: tuple[int, int, int, int]) -> Image.Image:
    kind, (left, top, columns, rows) = FILTERS[spec.interpolation], crop
    across, down = image.width / resized[0], image.height / resized[1]
    reach = SUPPORT[spec.interpolation] * max(down, 1.0) + 1
    first = max(0, math.floor(top * down - reach))
    end = min(image.height, math.ceil((top + rows) * down + reach))
    band = image.crop((0, first, image.width, end))  # the rows that the second pass will ask for
    if columns != image.width or left:
        band = band.resize((columns, band.height), kind, box=(left * across, 0, (left + columns) * across, band.height))
    if rows == image.height and not top:
        return band
    return band.resize((columns, rows), kind, box=(0, top * down - first, columns, (top + rows) * down - first))


def _centred(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Put an image that is smaller than the crop in the centre of black."""
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas
