"""Decoding: every format, orientation and kind of damage ends in the right pixels, or in a reason."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from topwork.errors import DecodeError
from topwork.extract.preprocess.decode import decode
from topwork.models.image_spec import ImageSpec

SPEC = ImageSpec(size=(32, 32), resize=32)
STORED = ImageSpec(size=(32, 32), resize=32, orientation="stored")
ROWS, COLUMNS = np.mgrid[0:40, 0:56]
SMOOTH = np.stack([ROWS * 6, COLUMNS * 4, (ROWS + COLUMNS) * 2], axis=2).astype(np.uint8)
FEW_COLOURS = SMOOTH // 64 * 64
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}, "PPM": {}}

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, 1),
}
"""What turns stored pixels upright, by the EXIF tag, after the table of the standard."""


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def pixels(content: Any, spec: ImageSpec = SPEC, **options: Any) -> np.ndarray:
    image = decode(content, spec, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


def difference(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    np.testing.assert_array_equal(pixels(encoded(SMOOTH, kind, **LOSSLESS[kind])), SMOOTH)


def test_gif_keeps_the_colours_of_its_palette() -> None:
    np.testing.assert_array_equal(pixels(encoded(FEW_COLOURS, "GIF")), FEW_COLOURS)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_of_every_colour_mode_shows_its_colours(mode: str) -> None:
    image = Image.fromarray(SMOOTH).convert(mode)
    found = pixels(encoded(image, "JPEG", quality=97, subsampling=0))
    assert difference(found, np.asarray(image.convert("RGB"))) <= 6
    if mode == "L":
        assert (found == found[:, :, :1]).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = LOSSLESS.get(kind, {"quality": 97, "subsampling": 0})
    content = encoded(SMOOTH, kind, exif=exif.tobytes() if kind == "WEBP" else exif, **options)
    assert difference(pixels(content), UPRIGHT[orientation](SMOOTH)) <= (6 if kind == "JPEG" else 0)


def test_stored_orientation_leaves_the_pixels_as_they_are() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(pixels(encoded(SMOOTH, "PNG", exif=exif), STORED), SMOOTH)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_transparency_is_dropped_and_colours_stay(kind: str) -> None:
    alpha = (COLUMNS * 4).astype(np.uint8)
    np.testing.assert_array_equal(pixels(encoded(np.dstack([SMOOTH, alpha]), kind)), SMOOTH)
    grey = Image.merge("LA", [Image.fromarray(SMOOTH[:, :, 0].copy()), Image.fromarray(alpha)])
    np.testing.assert_array_equal(pixels(encoded(grey, kind)), np.repeat(SMOOTH[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("transparency", [None, 1, bytes([255, 0, 128])], ids=["opaque", "one", "table"])
def test_palette_becomes_its_colours_whatever_is_transparent(transparency: int | bytes | None) -> None:
    colours = np.array([[255, 0, 0], [0, 200, 0], [10, 20, 250]], np.uint8)
    places = (COLUMNS % 3).astype(np.uint8)
    image = Image.fromarray(places, "L").convert("P")
    image.putdata(places.ravel().tolist())
    image.putpalette(colours.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    np.testing.assert_array_equal(pixels(encoded(image, "PNG", **options)), colours[places])


def test_bilevel_becomes_black_and_white() -> None:
    bits = COLUMNS % 2 == 0
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(bits), "PNG"))[:, :, 0], bits * 255)


@pytest.mark.parametrize(("kind", "order"), [("PNG", "<"), ("TIFF", "<"), ("TIFF", ">")])
def test_sixteen_bit_grey_is_divided_by_257_and_rounded(kind: str, order: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    mode = "I;16" if order == "<" else "I;16B"
    image = Image.frombytes(mode, (256, 256), values.astype(f"{order}u2").tobytes())
    expected = np.round(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(pixels(encoded(image, kind)), np.repeat(expected[:, :, None], 3, axis=2))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animation_is_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("#ff0000", "#00ff00", "#0000ff")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **LOSSLESS.get(kind, {}))
    assert Image.open(io.BytesIO(content)).n_frames == 3
    np.testing.assert_array_equal(pixels(content), np.asarray(frames[0]))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_file_is_refused_with_a_reason(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(noise, kind)
    with pytest.raises(DecodeError, match=r"\w{5}"):
        decode(content[: int(share * len(content))], SPEC)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"no image, a text\n" * 20, "identif|image"), (b"\xff\xd8\xff", "identif|image|truncated")],
)
def test_what_is_no_image_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    reasons = set()
    for _ in range(2):
        with pytest.raises(DecodeError, match=reason) as raised:
            decode(content, SPEC)
        reasons.add(str(raised.value))
    assert len(reasons) == 1, "a reason is the same each time"
    assert " at 0x" not in reasons.pop()


def test_max_pixels_is_the_last_number_that_is_decoded() -> None:
    content = encoded(np.zeros((10, 12, 3), np.uint8), "PNG")
    assert pixels(content, max_pixels=120).shape == (10, 12, 3)
    with pytest.raises(DecodeError, match=r"12 x 10 .*max_pixels=119"):
        decode(content, SPEC, max_pixels=119)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_bomb_is_refused_by_its_header_before_it_is_decoded(side: int) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    with pytest.raises(DecodeError, match="pixels"):
        decode(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 8) + b"IDAT", SPEC)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_uint8_arrays_are_pixels(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = np.repeat(array[:, :, None], 3, axis=2) if array.ndim == 2 else array[:, :, :3]
    np.testing.assert_array_equal(pixels(array), expected)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5, 7, 3), np.float32),
        np.zeros((5, 7, 2), np.uint8),
        np.zeros((3,), np.uint8),
        np.zeros((0, 7, 3), np.uint8),
        np.zeros((5, 0), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_that_are_no_image_are_refused(array: np.ndarray) -> None:
    with pytest.raises(DecodeError, match="array of "):
        decode(array, SPEC)


@pytest.mark.parametrize(
    ("values", "reason"),
    [(np.full((4, 4), 0.5, np.float32), "floating-point"), (np.full((4, 4), 70_000, np.int32), "at most 16 bits")],
)
def test_pixels_without_a_known_range_are_refused(values: np.ndarray, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(encoded(values, "TIFF"), SPEC)


@pytest.mark.parametrize(
    ("size", "fit", "expected"),
    [
        ((800, 600), "shorter", (400, 300)),
        ((600, 800), "shorter", (300, 400)),
        ((2400, 1600), "shorter", (300, 200)),
        ((470, 390), "shorter", (470, 390)),
        ((800, 600), "squash", (200, 150)),
    ],
)
def test_fast_decoding_covers_the_resized_image(size: tuple[int, int], fit: str, expected: tuple[int, int]) -> None:
    stream = io.BytesIO()
    Image.new("RGB", size, (10, 200, 30)).save(stream, "JPEG")
    spec = ImageSpec(size=(128, 128), resize=150 if fit == "squash" else 200, fit=fit, decode="fast")
    assert decode(stream.getvalue(), spec).size == expected
    resized = spec.resized(*reversed(size))
    assert all(side >= wanted for side, wanted in zip(reversed(expected), resized, strict=True))


def test_fast_decoding_changes_only_jpeg_files() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (800, 600)).save(stream, "PNG")
    assert decode(stream.getvalue(), ImageSpec(size=(32, 32), resize=32, decode="fast")).size == (800, 600)
