"""From the content of an item to upright RGB pixels, exactly as Pillow decodes them."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from ...errors import DecodeError
from ...models.image_spec import ImageSpec
from ..item import ORIENTATION_TAG, UPRIGHT

MAX_PIXELS = 89_478_485
"""Largest image that is decoded by default, in pixels: Pillow's own bound against decompression bombs."""

SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def decode(content: Any, spec: ImageSpec, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image.

    Parameters
    ----------
    content : bytes, ndarray or PIL.Image.Image
        An encoded image; an array ``(height, width)``, ``(height, width, 3)`` or ``(height, width, 4)`` of uint8; or an
        image. Of animations the first frame is taken.
    spec : ImageSpec
        Says whether the EXIF orientation is applied.
    max_pixels : int
        A larger image is refused before it is decoded.

    Returns
    -------
    PIL.Image.Image
        In mode RGB: grey and CMYK are converted, transparency is dropped, 16 bits are scaled to 8.

    Raises
    ------
    DecodeError
        If the content is no image, is damaged, or is too large.
    """
    try:
        image = _opened(content)
        width, height = image.size
        if width * height > max_pixels:
            raise DecodeError(f"{width} x {height} pixels are more than max_pixels={max_pixels:,}")
        if spec.decode == "fast":
            _shrink(image, spec)
        image.load()
        return _rgb(_upright(image) if spec.orientation == "exif" else image)
    except DecodeError:
        raise
    except UnidentifiedImageError as error:  # its own message holds the address of an object
        raise DecodeError("not an image of a known format") from error
    except Exception as error:
        raise DecodeError(f"{type(error).__name__}: {error}") from error


def _shrink(image: Image.Image, spec: ImageSpec) -> None:
    """Let the decoder of a JPEG yield a smaller image, yet one that covers the resized image, upright or not."""
    if image.format == "JPEG":
        upright, turned = spec.resized(image.height, image.width), spec.resized(image.width, image.height)
        image.draft(None, (max(upright[1], turned[0]), max(upright[0], turned[1])))


def _opened(content: Any) -> Image.Image:
    if isinstance(content, Image.Image):
        return content
    if isinstance(content, np.ndarray):
        return _from_array(content)
    if not content:
        raise DecodeError("the file is empty")
    return Image.open(io.BytesIO(content))


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    if array.size == 0:
        raise DecodeError(f"array of shape {array.shape} has no pixels")
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise DecodeError(
            f"array of {array.dtype} and shape {array.shape}; expected uint8 pixels of shape (height, width), "
            "(height, width, 3) or (height, width, 4)"
        )
    return Image.fromarray(array)


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data say; Pillow would copy one that is upright."""
    return image if image.getexif().get(ORIENTATION_TAG, UPRIGHT) == UPRIGHT else ImageOps.exif_transpose(image)


def _rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB; Pillow would clip 16-bit grey instead of scaling it."""
    if image.mode in SIXTEEN_BIT:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DecodeError(f"pixel values from {values.min()} to {values.max()}; expected at most 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise DecodeError("floating-point pixels have no defined range; expected 8 or 16 bits per channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def allow_pixels(max_pixels: int) -> None:
    """Let Pillow decode images up to the user's bound; its own warning would only repeat ours."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels
    ImageFile.LOAD_TRUNCATED_IMAGES = False
