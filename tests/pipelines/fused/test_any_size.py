"""Images that a graph resizes equal those that Pillow resizes, for every filter, size rule and proportion."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import PIL
import pytest
from numpy.typing import NDArray
from onnx import helper
from PIL import Image
from sklearn.datasets import load_sample_image
from topwork.extract.preprocess.resize import to_pixels
from topwork.extract.runtime.session import open_session
from topwork.models.image_spec import INTERPOLATIONS, ImageSpec
from topwork.pipelines.fused.any_size import make_resizing_model
from topwork.pipelines.fused.interpolation import FIRST_PILLOW_WITH_ROWS_FIRST

SPECS: dict[str, dict[str, Any]] = {
    "shorter": {"size": (56, 56), "resize": 64},
    "shorter, uncropped": {"size": (56, 56), "resize": 56},
    "shorter, odd excess": {"size": (56, 56), "resize": 61},
    "shorter, odd excess, floor": {"size": (56, 56), "resize": 61, "crop_rounding": "floor"},
    "smaller than the crop": {"size": (57, 57), "resize": 44},
    "smaller than the crop, floor": {"size": (57, 56), "resize": 44, "crop_rounding": "floor"},
    "cover": {"size": (40, 80), "resize": (48, 90), "fit": "cover"},
    "squash": {"size": (56, 56), "resize": (56, 56), "fit": "squash"},
    "squash and crop": {"size": (48, 64), "resize": (61, 70), "fit": "squash"},
    "border": {"size": (65, 44), "resize": (65, 44), "fit": "border"},
    "border and floor": {"size": (65, 44), "resize": (58, 40), "fit": "border", "crop_rounding": "floor"},
}
VERSIONS = helper.make_model(
    helper.make_graph([], "", [], []), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
)
"""A model with the versions of the smallest operator set that is tested."""
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def images() -> dict[str, Pixels]:
    """Return photographs and noise of many proportions; noise reaches black and white."""
    china, flower = (load_sample_image(name)[::2, ::2] for name in ("china.jpg", "flower.jpg"))
    generator = np.random.default_rng(0)
    return {
        "wide": china,
        "high": flower.transpose(1, 0, 2),
        "small": china[:40, :30],
        "very high": flower[:, :5],
        "very wide": flower[:5],
        "of the model's size": china[:56, :56],
        "one pixel": china[:1, :1],
        "noise": generator.integers(0, 256, (133, 200, 3), dtype=np.uint8),
        "extreme noise": generator.choice(np.array([0, 255], np.uint8), (200, 61, 3)),
    }


def open_resizing(spec: ImageSpec) -> onnxruntime.InferenceSession:
    model = make_resizing_model(spec, VERSIONS)
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def find_differences(spec: ImageSpec, images: dict[str, Pixels]) -> dict[str, int]:
    """Return the largest difference from Pillow of each image that differs at all."""
    session = open_resizing(spec)
    differences = {}
    for name, image in images.items():
        found = session.run(None, {"pixels": image[None]})[0]
        expected = to_pixels(Image.fromarray(image), spec)
        assert found.shape == (1, *spec.size, 3)
        assert found.dtype == np.uint8
        largest = np.abs(found[0].astype(int) - expected.astype(int)).max()
        if largest > 0:
            differences[name] = int(largest)
    return differences


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_filter_equals_pillow(interpolation: str, images: dict[str, Pixels]) -> None:
    assert find_differences(ImageSpec(interpolation=interpolation, **SPECS["shorter"]), images) == {}
    assert find_differences(ImageSpec(interpolation=interpolation, **SPECS["squash"]), images) == {}


@pytest.mark.parametrize("rule", SPECS)
def test_every_size_rule_equals_pillow(rule: str, images: dict[str, Pixels]) -> None:
    assert find_differences(ImageSpec(interpolation="bilinear", **SPECS[rule]), images) == {}


@pytest.mark.coverage
@pytest.mark.parametrize("rule", SPECS)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_filter_with_every_size_rule(interpolation: str, rule: str, images: dict[str, Pixels]) -> None:
    assert find_differences(ImageSpec(interpolation=interpolation, **SPECS[rule]), images) == {}


def test_several_images_of_one_size_are_resized_at_once(images: dict[str, Pixels]) -> None:
    spec = ImageSpec(**SPECS["shorter"])
    session = open_resizing(spec)
    both = np.stack([images["noise"], images["noise"][::-1]])
    together = session.run(None, {"pixels": both})[0]
    for image, found in zip(both, together, strict=True):
        assert np.array_equal(found, session.run(None, {"pixels": image[None]})[0][0])


def test_strip_of_which_pillow_computes_the_crop_alone_is_within_a_level() -> None:
    generator = np.random.default_rng(0)
    strip = {"strip": generator.integers(0, 256, (2, 900, 3), dtype=np.uint8)}  # 64 x 28,800, beyond its own bound
    spec = ImageSpec(size=(224, 224), resize=256)
    assert find_differences(spec, strip).get("strip", 0) <= 1


@pytest.mark.parametrize("order", ["columns", "rows"])
def test_order_of_rows_and_columns_is_that_of_pillow(
    order: str, images: dict[str, Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    high = images["extreme noise"]
    spec = ImageSpec(size=(50, 50), resize=(50, 50), fit="squash")
    version = FIRST_PILLOW_WITH_ROWS_FIRST - (order == "columns")
    monkeypatch.setattr(PIL, "__version__", f"{version}.0.0")
    between = (50, len(high)) if order == "columns" else (high.shape[1], 50)
    cubic = Image.Resampling.BICUBIC
    expected = Image.fromarray(high).resize(between, cubic).resize((50, 50), cubic)
    found = open_resizing(spec).run(None, {"pixels": high[None]})[0][0]
    assert np.array_equal(found, np.asarray(expected))


@pytest.mark.needs("openvino")
def test_openvino_is_within_a_level_from_the_first_image_on(images: dict[str, Pixels]) -> None:
    spec = ImageSpec(**SPECS["shorter"])
    session = open_session(make_resizing_model(spec, VERSIONS).SerializeToString(), "openvino")
    for image in (images["wide"], images["very high"], images["noise"]):
        found = session.run({"pixels": image[None]})[0][0]
        expected = to_pixels(Image.fromarray(image), spec)
        differences = np.abs(found.astype(int) - expected.astype(int))
        assert (differences <= 1).mean() >= 0.999
