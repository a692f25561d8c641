"""Views of images: the same on every machine, each different, still of the same image."""

from __future__ import annotations

import hashlib
import io
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from topwork.errors import DecodeError
from topwork.extract.preprocess.augment import DEFAULT_AUGMENTATION, Augmentation, augment, draw_crop
from topwork.extract.preprocess.by_kind import preprocessor_for
from topwork.extract.preprocess.decode import decode
from topwork.extract.preprocess.image import ImagePreprocessor
from topwork.extract.preprocess.resize import to_pixels
from topwork.extract.sources.item import AUGMENTATION_VERSION, View, content_digest
from topwork.models.image_spec import INTERPOLATIONS, ImageSpec
from topwork.models.torchvision_operators import ensure_torchvision_operators

SPEC = ImageSpec(size=(48, 64), resize=56)
GOLDEN = "d86c8bf7"


def photograph(width: int = 150, height: int = 100, seed: int = 0) -> Image.Image:
    """Return smooth colours that differ everywhere, with some noise."""
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = np.stack([255 * columns / width, 255 * rows / height, 128 + 100 * np.sin(columns / 9)], axis=-1)
    noise = np.random.default_rng(seed).normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def view(content: object, number: int = 1, spec: ImageSpec = SPEC) -> np.ndarray:
    return ImagePreprocessor(spec, 10**6).prepare(View(content, number)).array


def test_views_are_those_that_stores_hold() -> None:
    """A change of the pixels also changes AUGMENTATION_VERSION, and then the digest that is expected here."""
    image = (np.arange(150 * 100 * 3) ** 2 // 40_000 % 251).astype(np.uint8).reshape(100, 150, 3)
    pixels = np.stack([view(image, number) for number in range(1, 5)])
    assert AUGMENTATION_VERSION == "1"
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:8] == GOLDEN


def test_view_is_the_same_in_another_process() -> None:
    content = encoded(photograph())
    code = (
        "import sys, hashlib; from topwork.extract.sources.item import View\n"
        "from topwork.extract.preprocess.by_kind import preprocessor_for\n"
        "from topwork.models.image_spec import ImageSpec\n"
        "content, preprocessor = sys.stdin.buffer.read(), preprocessor_for(ImageSpec(size=(48, 64), resize=56))\n"
        "for n in (3, 1, 2): print(hashlib.sha256(preprocessor.prepare(View(content, n)).array.tobytes()).hexdigest())"
    )
    output = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=True).stdout
    expected = [hashlib.sha256(view(content, number).tobytes()).hexdigest() for number in (3, 1, 2)]
    assert output.decode().split() == expected
    np.testing.assert_array_equal(view(content), view(bytes(bytearray(content))))


def test_views_differ_from_each_other_and_from_the_image() -> None:
    image = photograph()
    pixels = [view(encoded(image), number) for number in range(1, 11)] + [to_pixels(image, SPEC)]
    for one in range(len(pixels)):
        for other in range(one):
            assert np.abs(pixels[one].astype(int) - pixels[other]).mean() > 1


def test_views_of_other_images_are_drawn_anew() -> None:
    first, second = photograph(seed=0), photograph(seed=1)
    assert np.abs(view(encoded(first)).astype(int) - view(encoded(second))).mean() > 10


def test_array_and_image_are_viewed_alike() -> None:
    image = photograph()
    np.testing.assert_array_equal(view(image), view(np.asarray(image)))


def test_grey_and_transparent_images_are_viewed() -> None:
    for mode in ("L", "RGBA", "P", "1"):
        assert view(encoded(photograph().convert(mode))).shape == (48, 64, 3)


@settings(max_examples=100, deadline=None)
@given(
    image=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**256 - 1),
    fit=st.sampled_from(["shorter", "squash", "border", "cover"]),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
def test_any_image_becomes_what_the_specification_says(
    image: tuple[int, int], size: tuple[int, int], seed: int, fit: str, interpolation: str
) -> None:
    spec = ImageSpec(size=size, resize=min(size), fit=fit, interpolation=interpolation)  # type: ignore[arg-type]
    pixels = augment(Image.new("RGB", image, (255, 255, 255)), spec, seed)
    assert (pixels.shape, pixels.dtype) == ((*size, 3), np.dtype(np.uint8))
    assert pixels.min() >= 150  # no border


@pytest.mark.parametrize("size", [(5000, 1), (1, 5000)])
def test_ribbon_is_viewed(size: tuple[int, int]) -> None:
    assert augment(Image.new("RGB", size), SPEC, 0).shape == (48, 64, 3)


def test_crops_are_of_the_area_and_the_proportions_that_are_stated() -> None:
    generator, ratio = np.random.default_rng(0), 64 / 48
    boxes = np.array([draw_crop((3000, 2000), ratio, generator) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() == 3000
    assert bottom.max() == 2000
    scale, proportions = DEFAULT_AUGMENTATION.area, DEFAULT_AUGMENTATION.proportions
    areas, ratios = (right - left) * (bottom - top) / 6e6, (right - left) / (bottom - top) / ratio
    assert scale[0] - 0.001 <= areas.min() < scale[0] + 0.01
    assert 0.9 < areas.max() <= scale[1]
    assert proportions[0] - 0.001 <= ratios.min() < proportions[0] + 0.01
    assert proportions[1] - 0.01 < ratios.max() <= proportions[1] + 0.001
    centres = (left + right) / 2 / 3000, (top + bottom) / 2 / 2000
    assert all(abs(centre.mean() - 0.5) < 0.01 for centre in centres)


def test_crop_that_cannot_fit_is_the_largest_in_the_centre() -> None:
    generator = np.random.default_rng(0)
    assert draw_crop((900, 30), 1.0, generator) == (430, 0, 470, 30)
    assert draw_crop((30, 900), 1.0, generator) == (0, 430, 30, 470)


def test_half_of_the_views_are_mirrored() -> None:
    augmentation = Augmentation(area=(1.0, 1.0), proportions=(1.0, 1.0), jitter=(1.0, 1.0))
    image, spec = photograph(64, 64), ImageSpec(size=(64, 64), resize=64)
    plain, count = np.asarray(image), 0
    for seed in range(400):
        pixels = augment(image, spec, seed, augmentation)
        mirrored = np.array_equal(pixels, plain[:, ::-1])
        assert mirrored or np.array_equal(pixels, plain)
        count += mirrored
    assert 160 < count < 240


def test_equals_torchvision() -> None:
    ensure_torchvision_operators()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

    image = photograph()
    for seed in range(20):
        generator = np.random.default_rng(seed)
        left, top, right, bottom = draw_crop((150, 100), 64 / 48, generator)
        expected = transforms.resized_crop(
            image, top, left, bottom - top, right - left, SPEC.size, InterpolationMode.BICUBIC
        )
        if generator.random() < 0.5:
            expected = transforms.hflip(expected)
        factors = 0.6 + 0.8 * generator.random(3)
        adjust = transforms.adjust_brightness, transforms.adjust_contrast, transforms.adjust_saturation
        for place in np.argsort(generator.random(3)):
            expected = adjust[place](expected, float(factors[place]))
        np.testing.assert_array_equal(augment(image, SPEC, seed), np.asarray(expected))


@pytest.mark.parametrize("place", range(3))
def test_each_colour_change_is_made(place: int) -> None:
    enhancers = DEFAULT_AUGMENTATION.enhancers[place : place + 1]
    augmentation = Augmentation(area=(1.0, 1.0), proportions=(1.0, 1.0), mirrored=0.0, enhancers=enhancers)
    image, spec = photograph(64, 64), ImageSpec(size=(64, 64), resize=64)
    statistic = [np.mean, np.std, lambda pixels: pixels.std(axis=2).mean()][place]
    views = [augment(image, spec, seed, augmentation) for seed in range(40)]
    shares = np.array([statistic(view) for view in views]) / statistic(np.asarray(image))
    assert 0.55 < shares.min() < 0.75
    assert 1.1 < shares.max() < 1.45


def test_colours_change_in_any_order() -> None:
    orders = []

    class Noted(ImageEnhance.Brightness):
        place = 0

        def enhance(self, factor: float) -> Image.Image:
            order.append(self.place)
            return super().enhance(factor)

    enhancers = tuple(type(f"Noted{place}", (Noted,), {"place": place}) for place in range(3))
    augmentation = Augmentation(enhancers=enhancers)
    for seed in range(60):
        order: list[int] = []
        augment(photograph(20, 20), SPEC, seed, augmentation)
        orders.append(tuple(order))
    assert len(set(orders)) == 6
    assert {len(set(order)) for order in orders} == {3}


def test_mean_colour_stays_near_that_of_the_image() -> None:
    grey = Image.new("RGB", (80, 80), (120, 120, 120))
    means = np.array([augment(grey, SPEC, seed).mean() for seed in range(300)])
    assert 0.6 * 120 - 1 <= means.min() < 0.65 * 120
    assert 1.35 * 120 < means.max() <= 1.4 * 120 + 1
    assert abs(means.mean() - 120) < 4


def test_photograph_is_turned_and_decoded_as_without_views() -> None:
    image = photograph(3000, 1000)
    exif = Image.Exif()
    exif[0x0112] = 6
    content, spec = encoded(image, "JPEG", exif=exif), ImageSpec(size=(32, 32), resize=32, decode="fast")
    decoded = decode(content, spec)
    assert decoded.width < decoded.height < 3000
    seed = int(content_digest(View(content, 1)), 16)
    prepared = preprocessor_for(spec).prepare(View(content, 1)).array
    np.testing.assert_array_equal(prepared, augment(decoded, spec, seed))
    with pytest.raises(DecodeError, match="max_pixels=100"):
        ImagePreprocessor(spec, 100).prepare(View(content, 1))


@pytest.mark.parametrize("content", [b"", b"no image", encoded(photograph())[:500], np.zeros((2, 2)), np.zeros((0, 3))])
def test_broken_image_is_a_broken_view(content: object) -> None:
    preprocessor = ImagePreprocessor(SPEC, 10**6)
    with pytest.raises(DecodeError) as plain:
        preprocessor.prepare(content)
    with pytest.raises(DecodeError) as viewed:
        preprocessor.prepare(View(content, 1))
    assert str(viewed.value) == str(plain.value)
    found = preprocessor.prepare_all([View(content, 1), View(photograph(), 1)])
    assert isinstance(found[0], DecodeError)
    np.testing.assert_array_equal(found[1].array, view(photograph()))  # type: ignore[union-attr]


def test_photographs_keep_their_colours(hymenoptera: Path) -> None:
    spec = ImageSpec(size=(96, 96), resize=96)
    for path in sorted(hymenoptera.glob("val/*/*.jpg"))[::16]:
        content = path.read_bytes()
        plain = ImagePreprocessor(spec, 10**8).prepare(content).array.mean()
        means = [ImagePreprocessor(spec, 10**8).prepare(View(content, n)).array.mean() for n in range(1, 21)]
        assert all(0.35 * plain < mean < min(255, 1.9 * plain) for mean in means), path
        assert math.isclose(np.mean(means), plain, rel_tol=0.35), path
