"""``load_backbone``: a caller's module stays theirs, names and files make specifications, errors say what to do."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
import torch
from topwork.errors import InputError, WeightsError
from topwork.models.from_topwork import WEIGHTS_FILE as TINY
from topwork.models.text_spec import TextSpec
from torch import nn

SPEC = topwork.ImageSpec(size=(16, 16), resize=16)


def noisy_network() -> nn.Sequential:
    """Return a network whose output in training mode depends on chance and on the rest of the batch."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), nn.Flatten(), nn.Linear(784, 5)
    ).train()


def test_module_of_the_caller_is_not_changed() -> None:
    module = noisy_network()
    before = copy.deepcopy(module.state_dict())
    backbone = topwork.load_backbone(module, input_spec=SPEC)
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    topwork.Extractor(backbone).fit_transform(images)
    assert all(child.training for child in module.modules())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert backbone.module is not module
    assert before.keys() == module.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_later_training_of_the_module_does_not_reach_the_backbone() -> None:
    module = noisy_network()
    backbone = topwork.load_backbone(module, input_spec=SPEC)
    expected = backbone.module(torch.ones(1, 3, 16, 16))
    module(torch.randn(8, 3, 16, 16))
    with torch.no_grad():
        module[0].weight.mul_(2)
    assert torch.equal(backbone.module(torch.ones(1, 3, 16, 16)), expected)


def test_features_of_a_module_left_in_training_mode_do_not_depend_on_the_batch() -> None:
    module = noisy_network()
    module(torch.randn(8, 3, 16, 16))
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    extractor = topwork.Extractor(topwork.load_backbone(module, input_spec=SPEC), layer=["1", "last"])
    together = extractor.transform(images)
    alone = np.concatenate([extractor.transform(images[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - torch.tensor(SPEC.mean).view(3, 1, 1)) / (
        torch.tensor(SPEC.std).view(3, 1, 1)
    )
    with torch.no_grad():
        expected = copy.deepcopy(module).eval()[:2](pixels).mean((2, 3)).numpy()
    np.testing.assert_allclose(together[:, :4], expected, rtol=1e-4, atol=1e-5)


def test_weights_file_is_loaded_into_a_named_architecture(data: Path, mobilenet_options: dict[str, Any]) -> None:
    from safetensors.torch import load_file

    backbone = topwork.load_backbone("timm:mobilenetv2_035", **mobilenet_options)
    stored = load_file(data / "backbones" / "mobilenetv2_035.in1k.safetensors")
    assert torch.equal(backbone.module.state_dict()["conv_head.weight"], stored["conv_head.weight"])
    assert backbone.input_spec.mean == (0.5, 0.5, 0.5)
    assert backbone.identity()["arguments"] == {"num_classes": 0, "pad_type": "same", "bn_eps": 1e-3}


def test_file_of_the_builtin_weights_is_the_builtin_backbone(tmp_path: Path) -> None:
    other = topwork.load_backbone("topwork:tiny", weights=shutil.copy(TINY, tmp_path / "copy.safetensors"))
    assert other.identity() == topwork.load_backbone("topwork:tiny").identity()
    assert other.weights_digest != topwork.load_backbone("topwork:tiny", weights="random").weights_digest


def test_weights_of_another_architecture_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"missing: bn1\.bias.*unexpected: layer1\.0\.shortcut|missing: .*conv1"):
        topwork.load_backbone("timm:resnet18", weights=TINY)


def test_absent_weights_file_is_named(tmp_path: Path) -> None:
    spec = topwork.BackboneSpec("topwork:tiny", weights=tmp_path / "absent.pth")
    for use in (spec.load, spec.request):
        with pytest.raises(InputError, match=r"absent\.pth does not exist"):
            use()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": nn.Identity()}, "input_spec="),
        ({"backbone": nn.Identity(), "input_spec": SPEC, "weights": "file.pth"}, "weights=.*model_args="),
        ({"backbone": nn.Identity(), "input_spec": SPEC, "model_args": {"a": 1}}, "weights=.*model_args="),
        ({"backbone": "topwork:tiny", "max_length": 8}, r"max_length .*image"),
        ({"backbone": nn.Identity(), "input_spec": SPEC, "max_length": 8}, "max_length .*image"),
        ({"backbone": nn.Identity(), "input_spec": TextSpec('{"model": {}}', 9), "size": 8}, "size .*text"),
        ({"backbone": "topwork:tiny", "colour": "red"}, "colour.*mean, std"),
        ({"backbone": "topwork:small"}, "'topwork:small'.*'topwork:tiny'"),
        ({"backbone": "topwork:tiny", "model_args": {"num_classes": 3}}, "topwork:tiny.*num_classes"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        topwork.load_backbone(**arguments)


def test_identity_names_everything_that_decides_features() -> None:
    base = topwork.load_backbone("topwork:tiny").identity()
    changed = topwork.load_backbone("topwork:tiny", mean=(0.5, 0.5, 0.5)).identity()
    assert set(base) == {"architecture", "arguments", "weights", "input"}
    assert {name for name in base if base[name] != changed[name]} == {"input"}


def test_copies_share_the_network() -> None:
    backbone = topwork.load_backbone("topwork:tiny")
    assert copy.deepcopy(backbone) is backbone
    assert repr(backbone) == f"TorchBackbone('topwork:tiny', weights={backbone.weights_digest[:12]})"


def test_own_specification_of_a_named_backbone_is_part_of_its_identity() -> None:
    base, other = topwork.load_backbone("topwork:tiny"), topwork.load_backbone("topwork:tiny", input_spec=SPEC)
    assert other.input_spec == SPEC
    assert {name for name, value in base.identity().items() if value != other.identity()[name]} == {"input"}
    assert (
        topwork.BackboneSpec("topwork:tiny", input_spec=SPEC).request()
        != topwork.BackboneSpec("topwork:tiny").request()
    )


def test_changes_are_made_to_the_specification_of_a_module_too() -> None:
    backbone = topwork.load_backbone(nn.Identity(), input_spec=SPEC, size=8, mean=(0.5, 0.5, 0.5))
    assert (backbone.input_spec.size, backbone.input_spec.mean) == ((8, 8), (0.5, 0.5, 0.5))
