"""The mean of a class-activation map plus the intercept is the head's score, for real networks and heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
from topwork.errors import ExportError, InputError


def draw_images(n_images: int, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return list(generator.integers(0, 256, (n_images, 40, 40, 3), dtype=np.uint8))


def fit(n_classes: int = 3, backbone: Any = "topwork:tiny", **options: Any) -> topwork.TransferClassifier:
    labels = [f"class {number % n_classes}" for number in range(30)]
    classifier = topwork.TransferClassifier(backbone, precision="fp32", **{"cv": 0, **options})
    return classifier.fit(draw_images(30), labels)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"layer": "layer2"}, (16, 16)),
        ({"layer": "last", "head": "ridge"}, (8, 8)),
        ({"layer": "layer1", "head": "logreg", "n_classes": 2}, (32, 32)),
    ],
)
def test_mean_of_the_map_and_intercept_are_the_score(options: dict[str, Any], shape: tuple[int, int]) -> None:
    classifier = fit(**options)
    (image,) = draw_images(1, seed=1)
    scores = np.atleast_1d(classifier.decision_function([image])[0])
    for index, label in enumerate(classifier.classes_.tolist()):
        explanation = classifier.explain(image, label)
        expected = scores[index] if len(scores) > 1 else scores[0] * (1 if index else -1)
        assert explanation.score == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert explanation.map.mean() + explanation.intercept == pytest.approx(explanation.score, rel=1e-5, abs=1e-6)
        assert explanation.map.shape == shape
    assert classifier.explain(image).label == classifier.predict([image])[0]
    assert classifier.explain(image).image.shape == (32, 32, 3)


def test_place_that_decides_is_found() -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(90, 120, (40, 32, 32, 3), dtype=np.uint8)
    images[::2, 4:12, 4:12] = (250, 20, 20)  # a red square at the upper left
    labels = ["square", "plain"] * 20
    classifier = topwork.TransferClassifier("topwork:tiny", layer="layer1", precision="fp32", cv=0)
    explanation = classifier.fit(list(images), labels).explain(images[0], "square")
    row, column = np.unravel_index(explanation.map.argmax(), explanation.map.shape)
    assert row < 14
    assert column < 14


def test_tokens_are_explained_where_they_lie() -> None:
    backbone = topwork.load_backbone("timm:test_vit", weights="random")
    classifier = fit(backbone=backbone, layer="blocks.1", pool="mean")
    explanation = classifier.explain(draw_images(1)[0])
    assert explanation.map.shape == (10, 10)
    assert explanation.map.mean() + explanation.intercept == pytest.approx(explanation.score, rel=1e-4, abs=1e-5)


def test_bundle_explains_photographs(hymenoptera: Path, data: Path, tmp_path: Path) -> None:
    backbone = topwork.load_backbone(
        "timm:mobilenetv2_035",
        weights=data / "backbones" / "mobilenetv2_035.in1k.safetensors",
        model_args={"num_classes": 0, "pad_type": "same", "bn_eps": 1e-3},
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    paths = [path for name in ("ants", "bees") for path in sorted((hymenoptera / "train" / name).iterdir())[:30]]
    classifier = topwork.TransferClassifier(backbone, cv=0).fit(paths, [path.parent.name for path in paths])
    classifier.save(tmp_path / "bundle")
    loaded = topwork.load(tmp_path / "bundle")
    bee = hymenoptera / "val" / "bees" / "abeja.jpg"
    explanation = loaded.explain(bee)
    sign = 1 if explanation.label == "bees" else -1
    assert explanation.score == pytest.approx(sign * loaded.decision_function([bee])[0], rel=1e-3)
    assert (explanation.map.shape, explanation.image.shape) == ((7, 7), (224, 224, 3))


def test_values_are_explained() -> None:
    levels = np.arange(0, 240, 6)
    images = [np.full((40, 40, 3), level, np.uint8) for level in levels]
    regressor = topwork.TransferRegressor("topwork:tiny", layer="layer2", cv=0, precision="fp32").fit(images, levels)
    explanation = regressor.explain(images[20])
    assert explanation.label is None
    assert explanation.score == pytest.approx(regressor.predict([images[20]])[0], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pool": "max", "layer": "layer2"}, ExportError, "are no mean over the places of a map"),
        ({"head": "knn"}, InputError, "is not linear; expected linear"),
        ({"layer": ["layer1", "layer2"]}, InputError, "layer1, layer2; expected those of one layer"),
        ({"normalize": True}, InputError, "normalized; expected"),
        ({"calibrate": True, "cv": 3}, InputError, "is not linear; expected linear"),
    ],
)
def test_what_is_no_linear_score_of_a_mean_is_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit(**options).explain(draw_images(1)[0])


def test_unknown_label_is_refused() -> None:
    with pytest.raises(InputError, match="label='bird' is no class; expected one of 'class 0'"):
        fit().explain(draw_images(1)[0], "bird")


def test_map_is_drawn_over_the_image(pyplot: Any) -> None:
    explanation = fit(layer="layer2").explain(draw_images(1)[0])
    axes = explanation.plot()
    image, drawn = axes.images
    assert image.get_array().shape == (32, 32)
    assert list(drawn.get_extent()) == [-0.5, 31.5, 31.5, -0.5]
    assert drawn.get_clim()[1] == pytest.approx(abs(explanation.map).max())
