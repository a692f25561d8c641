"""Images as cameras, scanners and web sites write them show the same colours as in Pillow, or fail with a reason."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image, features
from topwork.errors import DecodeError
from topwork.extract.preprocess import decode as decode_module
from topwork.extract.preprocess.decode import decode
from topwork.extract.sources.opening import open_source
from topwork.models.image_spec import ImageSpec

from .test_decode import SMOOTH, SPEC, UPRIGHT, difference, encoded, pixels

FAST = ImageSpec(size=(8, 8), resize=8, decode="fast")
WIDE = np.random.default_rng(0).integers(0, 65536, (20, 24, 4), dtype=np.uint16)
"""Pixels of 16 bits with four channels."""
NOISE = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)
EIGHT_BITS = np.round(WIDE / 257)
TAG_OF_STRIPS = (273, 279)
TAG_OF_TILES = (324, 325)


def write_tiff(tags: dict[int, Sequence[int]], pieces: Sequence[bytes], places: tuple[int, int]) -> bytes:
    """Return an uncompressed TIFF of strips or tiles; `places` are the tags of their offsets and sizes."""
    offsets, sizes = places
    start = 8 + sum(map(len, pieces))
    starts = [8 + sum(map(len, pieces[:number])) for number in range(len(pieces))]
    tags = tags | {259: [1], offsets: starts, sizes: [len(piece) for piece in pieces]}
    end = start + 2 + 12 * len(tags) + 4
    entries = extra = b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            place = end + len(extra)
            extra += packed
            packed = struct.pack("<I", place)
        entries += struct.pack("<HHI", tag, 4, len(values)) + packed
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\x00" + struct.pack("<I", start) + b"".join(pieces) + directory + extra


def write_tiles(array: np.ndarray, side: int = 16) -> bytes:
    """Return an array as a TIFF of tiles, those at the edges padded."""
    rows, columns = array.shape[:2]
    n_channels = 1 if array.ndim == 2 else array.shape[2]
    padding = [(0, -rows % side), (0, -columns % side)] + [(0, 0)] * (array.ndim - 2)
    padded = np.pad(array, padding)
    tiles = [
        padded[top : top + side, left : left + side].tobytes()
        for top in range(0, rows, side)
        for left in range(0, columns, side)
    ]
    bits = [8 * array.itemsize] * n_channels
    tags = {256: [columns], 257: [rows], 258: bits, 262: [2 if n_channels == 3 else 1], 277: [n_channels]}
    return write_tiff(tags | {322: [side], 323: [side]}, tiles, TAG_OF_TILES)


def write_png(array: np.ndarray) -> bytes:
    """Return pixels of 16 bits as a PNG."""
    rows, columns, n_channels = array.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[n_channels]
    lines = b"".join(b"\x00" + line.astype(">u2").tobytes() for line in array)
    header = struct.pack(">IIBBBBB", columns, rows, 16, colour_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return content


def as_rgb(array: np.ndarray) -> np.ndarray:
    return np.repeat(array[:, :, None], 3, axis=2) if array.ndim == 2 else array


@pytest.mark.parametrize("array", [SMOOTH, np.ascontiguousarray(SMOOTH[:, :, 0])], ids=["RGB", "grey"])
def test_tiled_tiff_keeps_every_pixel(array: np.ndarray) -> None:
    np.testing.assert_array_equal(pixels(write_tiles(array)), as_rgb(array))


def test_tiled_tiff_of_16_bits_is_scaled() -> None:
    np.testing.assert_array_equal(pixels(write_tiles(WIDE[:, :, 0])), as_rgb(EIGHT_BITS[:, :, 0]))


def test_tiff_of_12_bits_is_scaled_by_its_own_range() -> None:
    values = np.arange(4096).reshape(64, 64)
    first, second = values.reshape(-1, 2).T
    packed = np.stack([first >> 4, ((first & 15) << 4) | (second >> 8), second & 255], axis=1).astype(np.uint8)
    tags = {256: [64], 257: [64], 258: [12], 262: [1], 277: [1], 278: [64], 274: [6]}
    found = pixels(write_tiff(tags, [packed.tobytes()], TAG_OF_STRIPS))
    np.testing.assert_array_equal(found[:, :, 0], np.rot90(np.round(values / 4095 * 255), -1))


def test_tiff_of_16_bits_whose_white_is_zero_is_not_a_negative() -> None:
    values = WIDE[:, :, 0]
    tags = {256: [24], 257: [20], 258: [16], 262: [0], 277: [1], 278: [20]}
    found = pixels(write_tiff(tags, [values.tobytes()], TAG_OF_STRIPS))
    np.testing.assert_array_equal(found[:, :, 0], np.round((65535 - values.astype(int)) / 257))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "raw"])
def test_first_page_of_a_compressed_tiff_of_16_bits(compression: str) -> None:
    first, second = (Image.fromarray(np.ascontiguousarray(WIDE[:, :, channel])) for channel in (0, 1))
    content = encoded(first, "TIFF", save_all=True, append_images=[second], compression=compression)
    np.testing.assert_array_equal(pixels(content), as_rgb(EIGHT_BITS[:, :, 0]))


def test_scanned_page_of_one_bit() -> None:
    bits = SMOOTH[:, :, 0] > 100
    content = encoded(Image.fromarray(bits), "TIFF", compression="group4")
    np.testing.assert_array_equal(pixels(content), as_rgb(bits * 255))


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_png_of_16_bits_is_scaled_not_clipped(n_channels: int) -> None:
    array = WIDE[:, :, :n_channels]
    shown = array[:, :, :3] if n_channels > 2 else np.repeat(array[:, :, :1], 3, axis=2)
    found = pixels(write_png(array))
    assert difference(found, np.round(shown / 257)) <= (0 if n_channels == 1 else 1)  # Pillow takes the upper byte
    assert len(np.unique(found)) > 200


@pytest.mark.skipif(not features.check("avif"), reason="this build of Pillow reads no AVIF")
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_avif_is_upright_in_its_colours(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(SMOOTH, "AVIF", quality=100, subsampling="4:4:4", exif=exif.tobytes())
    assert difference(pixels(content), UPRIGHT[orientation](SMOOTH)) <= 6


@pytest.mark.skipif(not features.check("avif"), reason="this build of Pillow reads no AVIF")
def test_animated_and_damaged_avif() -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("#ff0000", "#00ff00")]
    content = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:], quality=100)
    assert difference(pixels(content), np.asarray(frames[0])) <= 6
    with pytest.raises(DecodeError):
        decode(content[: len(content) // 2], SPEC)


def test_webp_with_transparency_keeps_its_colours() -> None:
    alpha = np.full(SMOOTH.shape[:2], 128, np.uint8)
    content = encoded(np.dstack([SMOOTH, alpha]), "WEBP", lossless=True, exact=True)
    np.testing.assert_array_equal(pixels(content), SMOOTH)


@pytest.mark.parametrize("spec", [SPEC, FAST], ids=["exact", "fast"])
def test_cmyk_of_a_jpeg_with_adobes_mark_is_not_inverted(spec: ImageSpec) -> None:
    colours = {(0, 255, 255, 0): (255, 0, 0), (255, 0, 0, 0): (0, 255, 255), (0, 0, 0, 0): (255, 255, 255)}
    for cmyk, rgb in colours.items():
        content = encoded(Image.new("CMYK", (64, 48), cmyk), "JPEG", quality=100)
        assert b"Adobe" in content
        assert difference(pixels(content, spec)[0, 0], np.array(rgb)) <= 4


def test_cmyk_of_a_tiff() -> None:
    image = Image.fromarray(SMOOTH).convert("CMYK")
    np.testing.assert_array_equal(pixels(encoded(image, "TIFF")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "1"])
def test_modes_of_pillow_are_converted_as_it_does(mode: str) -> None:
    original = Image.fromarray(SMOOTH)
    if mode == "LAB":
        from PIL import ImageCms

        to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        image = ImageCms.applyTransform(original, to_lab)
        assert image is not None
    elif mode in ("LA", "PA"):
        image = original.convert(mode[0]).convert(mode)
    else:
        image = original.convert(mode)
    expected = image.convert("RGB")
    np.testing.assert_array_equal(pixels(image), np.asarray(expected))


@pytest.mark.parametrize(("mode", "plain"), [("La", "LA"), ("RGBa", "RGBA")])
def test_premultiplied_colours_are_divided_by_the_opacity(mode: str, plain: str) -> None:
    colour = (200, 128) if plain == "LA" else (200, 100, 50, 128)
    image = Image.new(plain, (4, 4), colour)
    shown = np.asarray(image.convert("RGB"))
    assert difference(pixels(image.convert(mode)), shown) <= 2


def test_progressive_jpeg_is_the_plain_one() -> None:
    image = Image.fromarray(NOISE)
    progressive = encoded(image, "JPEG", progressive=True)
    assert Image.open(io.BytesIO(progressive)).info["progressive"]
    np.testing.assert_array_equal(pixels(progressive), pixels(encoded(image, "JPEG")))


@pytest.mark.parametrize("spec", [SPEC, FAST], ids=["exact", "fast"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95, 0.995])
@pytest.mark.parametrize("tail", ["cut off", "zeros"])
def test_jpeg_without_its_end_fails_instead_of_being_grey(
    spec: ImageSpec, progressive: bool, share: float, tail: str
) -> None:
    content = encoded(Image.fromarray(NOISE), "JPEG", progressive=progressive)
    length = int(share * len(content))
    filling = bytes(len(content) - length) if tail == "zeros" else b""
    with pytest.raises(DecodeError, match=r"truncated|end"):
        decode(content[:length] + filling, spec)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_png_whose_end_is_overwritten_fails(share: float) -> None:
    slope = np.add.outer(np.arange(300), np.arange(300)).astype(np.uint8)
    content = encoded(slope, "PNG")
    length = int(share * len(content))
    with pytest.raises(DecodeError, match="truncated"):
        decode(content[:length] + bytes(len(content) - length), SPEC)
    np.testing.assert_array_equal(pixels(content[:-12])[:, :, 0], slope)
    np.testing.assert_array_equal(pixels(content + bytes(100))[:, :, 0], slope)


def test_jpeg_with_a_small_picture_and_filling_bytes_in_its_headers() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    small = encoded(Image.fromarray(NOISE[:8, :8]), "JPEG")
    content = encoded(Image.fromarray(NOISE), "JPEG", exif=exif, comment=small[:60_000])
    assert content.index(b"\xff\xd9") < content.rindex(b"\xff\xda")
    place = content.index(b"\xff\xdb", 20 + len(small))
    filled = content[:place] + b"\xff\xff\xff" + content[place:]
    np.testing.assert_array_equal(pixels(filled), pixels(content))
    with pytest.raises(DecodeError, match="truncated"):
        decode(filled[:-200] + bytes(200), SPEC)


def test_jpeg_with_something_behind_its_end_is_whole() -> None:
    content = encoded(Image.fromarray(NOISE), "JPEG")
    for behind in (b"\x00" * 100, b"a film of two seconds", content):
        np.testing.assert_array_equal(pixels(content + behind), pixels(content))


@pytest.mark.parametrize(
    "name", ["a.JPG", "a.JPEG", "a.TIFF", "a.Tif", "a.PNG", "a.WebP", "a.AVIF", "a.HEIC", "a.heif"]
)
def test_endings_in_capitals_are_those_of_images(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert [item.id for item in open_source(tmp_path)] == [name]


def box_of(brand: bytes) -> bytes:
    """Return the start of a file of HEIC or AVIF."""
    return struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1" + brand + bytes(100)


@pytest.fixture
def forget_plugins() -> Any:
    decode_module.register_heif.cache_clear()
    yield
    decode_module.register_heif.cache_clear()


@pytest.mark.usefixtures("forget_plugins")
@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_heic_without_its_package_names_it(brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    if "HEIF" in Image.OPEN:
        pytest.skip("another test has registered pillow-heif")
    with pytest.raises(DecodeError, match=r"HEIC.*pip install pillow-heif"):
        decode(box_of(brand), SPEC)


@pytest.mark.usefixtures("forget_plugins")
def test_heic_is_read_by_what_its_package_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = ModuleType("pillow_heif")

    class HeifFile(Image.Image):
        def __init__(self, stream: io.BytesIO, name: str) -> None:
            image = Image.fromarray(SMOOTH)
            super().__init__()
            self.im = image.im
            self._mode = "RGB"
            self._size = image.size

    def register() -> None:
        monkeypatch.setitem(Image.OPEN, "TEST-HEIF", (HeifFile, lambda start: start[4:12] == b"ftypheic"))
        monkeypatch.setattr(Image, "ID", [*Image.ID, "TEST-HEIF"])

    plugin.register_heif_opener = register  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    np.testing.assert_array_equal(pixels(box_of(b"heic")), SMOOTH)
    with pytest.raises(DecodeError, match="not an image"):
        decode(box_of(b"mp42"), SPEC)


def test_heic_of_pillow_heif() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(SMOOTH)).save(stream, quality=-1)
    assert difference(pixels(stream.getvalue()), SMOOTH) <= 6


def test_avif_without_its_decoder_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real_check: Callable[[str], bool | None] = features.check
    monkeypatch.setattr(features, "check", lambda name: name != "avif" and real_check(name))
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "AVIF"])
    with pytest.raises(DecodeError, match=r"AVIF.*Pillow"):
        decode(box_of(b"avif"), SPEC)
