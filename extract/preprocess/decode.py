"""From the content of an item to upright RGB pixels, exactly as Pillow decodes them."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features

from ...errors import DecodeError
from ...models.image_spec import ImageSpec
from ..sources.item import ORIENTATION_TAG, UPRIGHT_ORIENTATION

MAX_PIXELS = 89_478_485
"""Largest image that is decoded by default, in pixels: Pillow's own bound against decompression bombs."""
EXECUTED_FORMATS = ("EPS", "WMF", "EMF")
"""Formats that are programs, PostScript run by a process of its own."""
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
PREMULTIPLIED_MODES = {"La": "LA", "RGBa": "RGBA"}
"""Modes whose colours are multiplied by the opacity, and the same without."""
JPEG_FORMATS = ("JPEG", "MPO")
JPEG_END = b"\xff\xd9"
PNG_END = b"IEND"
OVERWRITTEN_END = bytes(4)
JPEG_SCAN = b"\xda"
"""Second byte of the mark at which the pixels of a JPEG begin."""
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis")
BRAND_END = 12
"""Where the first box of such a file has named its brand."""
BITS_PER_SAMPLE_TAG = 258
PHOTOMETRIC_TAG = 262
"""Tags of a TIFF file."""
WHITE_IS_ZERO = 0


def decode(content: Any, spec: ImageSpec, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image to mode RGB.

    The content is an encoded image, of whose animation the first frame is taken; a uint8 array ``(height, width)`` or
    ``(height, width, 3 or 4)``; or a PIL image. The EXIF orientation is applied if `spec` states it. Grey and CMYK are
    converted, transparency is dropped, 16 bits are scaled to 8. Raise a DecodeError if the content is no image or
    damaged, or, before it is decoded, if it has more than `max_pixels`.
    """
    try:
        image = open_image(content)
        check_pixels(image, max_pixels)
        if isinstance(content, (bytes, bytearray)):
            require_end(content, image.format)
        if spec.decode == "fast":
            reduce_jpeg(image, spec)
        image.load()
        levels = find_levels(image)
        if spec.orientation == "exif":
            image = turn_upright(image)
        return to_rgb(image, levels)
    except DecodeError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own bound is twice as large, and names another option
        raise DecodeError(f"a decompression bomb, of far more pixels than max_pixels={max_pixels:,}") from error
    except UnidentifiedImageError as error:  # its own message holds the address of an object
        raise DecodeError("not an image of a known format") from error
    except Exception as error:
        raise DecodeError(f"{type(error).__name__}: {error}") from error


def open_image(content: Any) -> Image.Image:
    """Return a PIL image of an item's content, not decoded yet; raise a DecodeError for content of another kind."""
    if isinstance(content, Image.Image):
        return content
    if isinstance(content, (np.ndarray, np.generic)):
        return image_from_array(np.asarray(content))
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise DecodeError(f"a {type(content).__name__}; expected the bytes of an image file, pixels or a PIL image")
    if not content:
        raise DecodeError("the file is empty")
    try:
        image: Image.Image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError as error:
        image = open_with_plugin(bytes(content[:BRAND_END]), io.BytesIO(content), error)
    if image.format in EXECUTED_FORMATS:
        raise DecodeError(f"{image.format} is a program that draws; expected pixels")
    return image


def open_with_plugin(start: bytes, stream: io.BytesIO, error: UnidentifiedImageError) -> Image.Image:
    """Open an image of a format that Pillow reads with another package; else raise its `error`, or a DecodeError."""
    brand = start[8:] if start[4:8] == b"ftyp" else b""
    if brand in HEIF_BRANDS:
        if register_heif():
            return Image.open(stream)
        raise DecodeError(
            "a HEIC image, which needs the package pillow-heif, which is not installed: pip install pillow-heif"
        ) from error
    if brand in AVIF_BRANDS and not features.check("avif"):
        raise DecodeError(
            "an AVIF image, which this build of Pillow cannot read: pip install --upgrade pillow"
        ) from error
    raise error


@cache
def register_heif() -> bool:
    """Let Pillow read HEIC, and return whether the package for it is installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def image_from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    """Return uint8 pixels as a PIL image; raise a DecodeError for arrays of another shape or dtype."""
    if array.size == 0:
        raise DecodeError(f"array of shape {array.shape} has no pixels")
    is_grey = array.ndim == 2
    is_colored = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (is_grey or is_colored):
        raise DecodeError(
            f"array of {array.dtype} and shape {array.shape}; expected uint8 pixels of shape (height, width), "
            "(height, width, 3) or (height, width, 4)"
        )
    return Image.fromarray(array)


def check_pixels(image: Image.Image, max_pixels: int) -> None:
    """Raise a DecodeError if an image has too many pixels."""
    width, height = image.size
    if width * height > max_pixels:
        raise DecodeError(f"{width} x {height} pixels are more than max_pixels={max_pixels:,}")


def require_end(content: bytes | bytearray, image_format: str | None) -> None:
    """Raise a DecodeError for a JPEG or PNG whose end is overwritten, as by the zeros of a broken download.

    Pillow would fill its lower part with grey, or with whatever zeros mean. A PNG that only lacks its end is whole.
    """
    is_overwritten = False
    if image_format in JPEG_FORMATS:
        start = find_scan(content)
        is_overwritten = start is not None and content.rfind(JPEG_END) < start
    elif image_format == "PNG":
        is_overwritten = content.endswith(OVERWRITTEN_END) and PNG_END not in content
    if is_overwritten:
        raise DecodeError(
            f"image file is truncated: the end of the {image_format} is missing, as after a broken download"
        )


def find_scan(content: bytes | bytearray) -> int | None:
    """Return where the pixels of a JPEG begin, behind its headers, in which there may be a smaller picture."""
    position = 2
    while content[position : position + 1] == b"\xff":
        marker = content[position + 1 : position + 2]
        if marker == JPEG_SCAN:
            return position
        if marker == b"\xff":  # a byte that fills up
            position += 1
            continue
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return None


def reduce_jpeg(image: Image.Image, spec: ImageSpec) -> None:
    """Let the decoder of a JPEG yield a smaller image, yet one that covers the resized image, upright or not."""
    if image.format != "JPEG":
        return
    upright_height, upright_width = spec.resized(image.height, image.width)
    turned_height, turned_width = spec.resized(image.width, image.height)
    image.draft(None, (max(upright_width, turned_height), max(upright_height, turned_width)))


def turn_upright(image: Image.Image) -> Image.Image:
    """Turn an image according to its EXIF data; one that is upright is not copied, as Pillow would do."""
    if image.getexif().get(ORIENTATION_TAG, UPRIGHT_ORIENTATION) == UPRIGHT_ORIENTATION:
        return image
    return ImageOps.exif_transpose(image)


def to_rgb(image: Image.Image, levels: tuple[int, int]) -> Image.Image:
    """Convert an image to RGB; grey of up to 16 bits is scaled from its `levels` of black and white, not clipped.

    Raise a DecodeError if the range of the pixel values is not defined, or beyond 16 bits.
    """
    if image.mode in SIXTEEN_BIT_MODES:
        image = scale_to_8_bits(image, *levels)
    elif image.mode in PREMULTIPLIED_MODES:
        image = image.convert(PREMULTIPLIED_MODES[image.mode])
    elif image.mode == "F":
        raise DecodeError("floating-point pixels have no defined range; expected 8 or 16 bits per channel")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def find_levels(image: Image.Image) -> tuple[int, int]:
    """Return the values of black and white in 16-bit grey; a TIFF may have fewer bits, or both the other way round."""
    tags = getattr(image, "tag_v2", {})
    bits = int(tags.get(BITS_PER_SAMPLE_TAG, (16,))[0])
    largest = int(2 ** min(bits, 16)) - 1
    is_inverted = tags.get(PHOTOMETRIC_TAG) == WHITE_IS_ZERO
    return (largest, 0) if is_inverted else (0, largest)


def scale_to_8_bits(image: Image.Image, black: int, white: int) -> Image.Image:
    """Scale pixels between two values to 8 bits, rounded; raise a DecodeError for values beyond 16 bits."""
    largest = max(black, white)
    values = np.asarray(image)
    if values.min() < 0 or values.max() > largest:
        raise DecodeError(f"pixel values from {values.min()} to {values.max()}; expected at most 16 bits")
    scaled = values.astype(np.int32)
    scaled -= black  # in place: each copy of the largest image takes 360 MB
    np.abs(scaled, out=scaled)
    scaled *= 255
    scaled += largest // 2
    scaled //= largest
    return Image.fromarray(scaled.astype(np.uint8))


def allow_pixels(max_pixels: int) -> None:
    """Let Pillow decode images up to the user's bound; its warnings would only repeat ours, or name no item."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of damaged EXIF data
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels
    ImageFile.LOAD_TRUNCATED_IMAGES = False
