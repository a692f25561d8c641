"""Resizing and cropping: the pixels that torchvision and timm would give the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from topwork.extract.preprocess.decode import decode
from topwork.extract.preprocess.resize import FILTERS, MAX_RESIZED_PIXELS, Span, place_in_centre, to_pixels
from topwork.models.image_spec import INTERPOLATIONS, ImageSpec
from topwork.models.torchvision_operators import ensure_torchvision_operators

LANDSCAPE, PORTRAIT, ODD, TINY, LONG = (
    (500, 375),
    (375, 500),
    (301, 199),
    [(1, 1), (5, 7), (2, 3)],
    [(900, 4), (3, 700)],
)
RIBBONS = [(1300, 1), (1, 1300)]


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def by_torchvision(image: Image.Image, spec: ImageSpec) -> np.ndarray:
    ensure_torchvision_operators()
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    return np.asarray(CenterCrop(spec.size)(Resize(spec.resize, InterpolationMode(spec.interpolation))(image)))


def resized_whole(image: Image.Image, spec: ImageSpec) -> np.ndarray:
    rows, columns = spec.resized(image.height, image.width)
    across = Span.in_centre(image.width, columns, wanted=spec.size[1])
    down = Span.in_centre(image.height, rows, wanted=spec.size[0])
    resized = image.resize((columns, rows), FILTERS[spec.interpolation])
    pixels = np.asarray(resized.crop((across.start, down.start, across.end, down.end)))
    return pixels if pixels.shape[:2] == spec.size else place_in_centre(pixels, spec)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [LANDSCAPE, PORTRAIT, ODD, (224, 224), (257, 256), *TINY, *LONG], ids=str)
@pytest.mark.parametrize(
    ("crop", "resize"), [((224, 224), 256), ((96, 96), 96), ((60, 90), 68)], ids=["usual", "whole", "wide"]
)
def test_equals_torchvision(size: tuple[int, int], interpolation: str, crop: tuple[int, int], resize: int) -> None:
    spec, image = ImageSpec(size=crop, resize=resize, interpolation=interpolation), noise(*size)
    np.testing.assert_array_equal(to_pixels(image, spec), by_torchvision(image, spec))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", RIBBONS, ids=str)
def test_ribbon_is_within_one_level_of_torchvision(size: tuple[int, int], interpolation: str) -> None:
    spec, image = ImageSpec(size=(112, 112), resize=128, interpolation=interpolation), noise(*size)
    assert np.prod(spec.resized(image.height, image.width)) > MAX_RESIZED_PIXELS
    difference = np.abs(to_pixels(image, spec).astype(int) - by_torchvision(image, spec))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.0005


def test_equals_the_evaluation_transform_of_timm_on_photographs(hymenoptera: Path) -> None:
    ensure_torchvision_operators()
    from timm.data import create_transform

    transform = create_transform((3, 224, 224), interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1), crop_pct=0.875)
    spec = ImageSpec(size=(224, 224), resize=256)
    photographs = sorted(hymenoptera.glob("val/*/*.jpg"))[::8]
    assert len({Image.open(path).size for path in photographs}) > 5
    for path in photographs:
        theirs = transform(Image.open(path).convert("RGB")).permute(1, 2, 0).numpy() * 255
        np.testing.assert_array_equal(to_pixels(decode(path.read_bytes(), spec), spec), theirs.round(), str(path))


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    extra=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    fit=st.sampled_from(["shorter", "squash", "cover", "border"]),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
@example(width=266, height=572, size=(156, 127), extra=(28, 14), fit="border", interpolation="lanczos")
@example(width=255, height=157, size=(7, 250), extra=(0, 35), fit="squash", interpolation="bicubic")
def test_columns_are_dropped_without_a_change_of_pixels(
    width: int, height: int, size: tuple[int, int], extra: tuple[int, int], fit: str, interpolation: str
) -> None:
    resize = min(size) + extra[0] if fit == "shorter" else (size[0] + extra[0], size[1] + extra[1])
    spec = ImageSpec(size=size, resize=resize, fit=fit, interpolation=interpolation)  # type: ignore[arg-type]
    assume(np.prod(spec.resized(height, width)) <= MAX_RESIZED_PIXELS)
    image = noise(width, height)
    np.testing.assert_array_equal(to_pixels(image, spec), resized_whole(image, spec))


def test_columns_are_dropped_without_a_change_of_photographs(hymenoptera: Path) -> None:
    spec = ImageSpec(size=(224, 224), resize=256)
    photographs = sorted(hymenoptera.glob("*/*/*.jpg"))
    assert len(photographs) > 390
    for path in photographs:
        image = decode(path.read_bytes(), spec)
        np.testing.assert_array_equal(to_pixels(image, spec), resized_whole(image, spec), str(path))


def test_squash_ignores_the_proportions() -> None:
    spec, image = ImageSpec(size=(48, 64), resize=48, fit="squash"), noise(150, 31)
    expected = np.asarray(image.resize((64, 48), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(to_pixels(image, spec), expected)


@settings(max_examples=150, deadline=None)
@given(
    image=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    extra=st.integers(0, 20),
    fit=st.sampled_from(["shorter", "squash"]),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
def test_any_image_becomes_what_the_specification_says(
    image: tuple[int, int], size: tuple[int, int], extra: int, fit: str, interpolation: str
) -> None:
    spec = ImageSpec(size=size, resize=min(size) + extra, fit=fit, interpolation=interpolation)  # type: ignore[arg-type]
    pixels = to_pixels(Image.new("RGB", image, (255, 255, 255)), spec)
    assert (pixels.shape, pixels.dtype) == ((*size, 3), np.dtype(np.uint8))
    rows, columns = spec.resized(image[1], image[0])
    assert (pixels == 255).sum() == 3 * min(rows, size[0]) * min(columns, size[1])


@pytest.mark.parametrize("shape", [(1, 4_000_000), (4_000_000, 1)], ids=["tall", "wide"])
def test_image_as_narrow_as_a_line_takes_little_memory(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    resize = Image.Image.resize

    def counted(self: Image.Image, size: tuple[int, int], *args: object, **kwargs: object) -> Image.Image:
        sizes.append(size[0] * size[1])
        return resize(self, size, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", counted)
    pixels = to_pixels(Image.new("RGB", shape, (9, 90, 200)), ImageSpec(size=(224, 224), resize=256))
    assert pixels.shape == (224, 224, 3)
    assert (pixels == (9, 90, 200)).all()
    assert max(sizes) <= MAX_RESIZED_PIXELS
