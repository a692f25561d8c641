"""torchvision's classifiers come with the transform of their default weights; without a network the error advises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import topwork
import torch
from topwork.errors import InputError

SMALL = {
    "resnet18": ("fc", 256, "bilinear"),
    "mobilenet_v3_small": ("classifier.3", 256, "bilinear"),
    "squeezenet1_1": ("classifier.1", 256, "bilinear"),
    "shufflenet_v2_x0_5": ("fc", 256, "bilinear"),
    "efficientnet_b0": ("classifier.1", 256, "bicubic"),
}


@pytest.mark.parametrize("name", SMALL)
def test_specification_is_that_of_the_default_weights(name: str) -> None:
    backbone = topwork.load_backbone(f"torchvision:{name}", weights="random")
    spec = backbone.input_spec
    assert (backbone.classifier, spec.resize, spec.interpolation) == SMALL[name]
    assert (spec.size, spec.mean, spec.std) == ((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_preprocessing_equals_torchvisions_own_transform() -> None:
    from torchvision import models, transforms

    preset = models.get_model_weights("efficientnet_b0").DEFAULT.transforms()
    spec = topwork.load_backbone("torchvision:efficientnet_b0", weights="random").input_spec
    assert preset.resize_size == [spec.resize]
    assert preset.crop_size == [spec.size[0]]
    assert preset.interpolation is transforms.InterpolationMode(spec.interpolation)


def test_arguments_reach_the_architecture() -> None:
    backbone = topwork.load_backbone("torchvision:resnet18", weights="random", model_args={"num_classes": 3})
    assert backbone.module(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    assert backbone.identity()["arguments"] == {"num_classes": 3}


@pytest.mark.parametrize(("name", "near"), [("resnet19", "resnet18"), ("fcn_resnet50", "resnet50")])
def test_name_of_no_classifier_is_refused_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"'{name}'.*{near}"):
        topwork.load_backbone(f"torchvision:{name}", weights="random")


def test_pretrained_network_with_another_classifier_is_an_input_error() -> None:
    with pytest.raises(InputError, match="'num_classes' expected value 1000 but got 10"):
        topwork.load_backbone("torchvision:resnet18", model_args={"num_classes": 10})


def test_without_a_network_the_error_says_how_to_pass_local_weights(tmp_path: Path) -> None:
    code = "import topwork; topwork.load_backbone('torchvision:squeezenet1_1')"
    nowhere = {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path)}
    environment = {**os.environ, **nowhere}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    message = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1
    assert message.startswith("topwork.errors.HubError: the pre-trained weights of torchvision:squeezenet1_1 could not")
    assert "weights='file.safetensors', --weights FILE" in message
