"""timm's models come with timm's own evaluation transform and classifier; without a network the error advises."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import topwork
from PIL import Image
from topwork.errors import InputError
from topwork.extract.preprocess.by_kind import preprocessor_for
from topwork.models.from_timm import find_classifier, image_spec
from topwork.models.torchvision_operators import ensure_torchvision_operators

CONFIG = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "crop_pct": 0.875,
    "crop_mode": "center",
}


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    ensure_torchvision_operators()
    return importlib.import_module("timm")


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_035", "vit_tiny_patch16_224", "convnext_atto"])
def test_specification_equals_timms_evaluation_transform(timm: ModuleType, name: str) -> None:
    config = timm.data.resolve_data_config({}, model=timm.create_model(name))
    resize, crop, _, normalise = timm.data.create_transform(**config).transforms
    spec = topwork.load_backbone(f"timm:{name}", weights="random").input_spec
    assert (spec.resize, spec.size, spec.interpolation) == (resize.size, crop.size, resize.interpolation.value)
    assert spec.mean == pytest.approx(normalise.mean.tolist())
    assert spec.std == pytest.approx(normalise.std.tolist())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (256, "shorter", "bicubic")),
        ({"crop_pct": 0.95}, (235, "shorter", "bicubic")),
        ({"crop_mode": "squash", "crop_pct": 1.0}, (224, "squash", "bicubic")),
        ({"interpolation": "random"}, (256, "shorter", "bilinear")),
    ],
)
def test_data_configuration_is_translated(changes: dict[str, Any], expected: tuple[int, str, str]) -> None:
    spec = image_spec({**CONFIG, **changes})
    assert (spec.resize, spec.fit, spec.interpolation) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"input_size": (1, 28, 28)}, "takes 1 channels"), ({"crop_mode": "spiral"}, "crop mode 'spiral'")],
)
def test_preprocessing_that_is_not_offered_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        image_spec({**CONFIG, **changes})


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("resnet18", {}, "fc"),
        ("mobilenetv2_035", {}, "classifier"),
        ("convnext_atto", {}, "head.fc"),
        ("deit_tiny_distilled_patch16_224", {}, "head"),
        ("mobilenetv2_035", {"num_classes": 0}, ""),
    ],
)
def test_classifier_is_found_by_name(timm: ModuleType, name: str, arguments: dict[str, Any], expected: str) -> None:
    assert find_classifier(timm.create_model(name, **arguments)) == expected


def test_near_names_are_offered_for_an_unknown_one() -> None:
    with pytest.raises(InputError, match=r"'resnet5O'.*resnet50"):
        topwork.load_backbone("timm:resnet5O", weights="random")


def test_tag_of_pretrained_weights_is_no_part_of_the_identity() -> None:
    plain, tagged = (topwork.load_backbone(f"timm:resnet18{tag}", weights="random") for tag in ("", ".a1_in1k"))
    assert plain.name == tagged.name == "timm:resnet18"
    assert plain.weights_digest == tagged.weights_digest


def test_without_a_network_the_error_says_how_to_pass_local_weights(tmp_path: Path) -> None:
    code = "import topwork; topwork.load_backbone('timm:resnet18')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    message = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1
    assert message.startswith("topwork.errors.HubError: the pre-trained weights of timm:resnet18 could not be fetched")
    assert "weights='file.safetensors', --weights FILE" in message
    assert "weights='random'" in message


@pytest.mark.parametrize("shape", [(300, 400), (401, 237), (64, 640), (20, 30)])
@pytest.mark.parametrize(
    "changes", [{"crop_mode": "border"}, {"crop_mode": "border", "crop_pct": 1.0}, {"input_size": (3, 96, 160)}]
)
def test_pixels_equal_timms_own(timm: ModuleType, changes: dict[str, Any], shape: tuple[int, int]) -> None:
    config = {**CONFIG, **changes}
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    pixels = preprocessor_for(image_spec(config)).prepare(image).array.astype(np.float64)
    theirs = timm.data.create_transform(**config)(image).numpy()
    np.testing.assert_allclose((pixels / 255 - 0.5) / 0.5, theirs.transpose(1, 2, 0), atol=1e-5)


@pytest.mark.parametrize("weights", [None, "random"])
def test_unknown_tag_lists_the_known_ones(weights: str | None) -> None:
    with pytest.raises(InputError, match=r"'nonsense' of resnet18; .*a1_in1k"):
        topwork.load_backbone("timm:resnet18.nonsense", weights=weights)
