"""Names of backbones, and one suite that the loader of every source passes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import topwork
import torch
from topwork.errors import InputError, MissingPackageError
from topwork.models.registry import LOADERS, find_loader, require_package
from topwork.models.torchvision_operators import ensure_torchvision_operators

SMALL = {
    "topwork": "topwork:tiny",
    "timm": "timm:resnet10t",
    "torchvision": "torchvision:shufflenet_v2_x0_5",
    "hf": "hf:{folder}/vit",
}
ARCHITECTURES = {"hf": "hf:ViTForImageClassification"}
"""Names of models that are identified by their files, not by the name that was asked for."""
SEVEN_CLASSES = {"hf": {"num_labels": 7}}
MODULES = [source for source, entry in LOADERS.items() if entry.torch]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small vision transformer in ``vit/``, as transformers saves it."""
    ensure_torchvision_operators()
    from transformers import ViTConfig, ViTForImageClassification

    folder = tmp_path_factory.mktemp("hf")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    ViTForImageClassification(ViTConfig(num_hidden_layers=1, num_attention_heads=2, **sizes)).save_pretrained(
        folder / "vit"
    )
    fields = {
        "size": {"shortest_edge": 36},
        "do_center_crop": True,
        "crop_size": 32,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 2,
    }
    (folder / "vit" / "preprocessor_config.json").write_text(json.dumps(fields))
    return folder


@pytest.fixture(scope="module", params=MODULES)
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def name(source: str, folder: Path) -> str:
    return SMALL[source].format(folder=folder)


def test_loader_returns_a_frozen_model_in_evaluation_mode(source: str, name: str) -> None:
    backbone = topwork.load_backbone(name, weights="random")
    assert not any(module.training for module in backbone.module.modules())
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    assert len(backbone.weights_digest) == 64
    assert backbone.name == ARCHITECTURES.get(source, name)


def test_random_weights_are_the_same_each_time_whatever_the_seed(name: str) -> None:
    torch.manual_seed(1)
    first = topwork.load_backbone(name, weights="random")
    torch.manual_seed(2)
    second = topwork.load_backbone(name, weights="random")
    assert first.weights_digest == second.weights_digest
    assert first.identity() == second.identity()


def test_loading_leaves_the_global_random_state_alone(name: str) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    topwork.load_backbone(name, weights="random")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_classifier_is_a_module_that_yields_the_output(source: str, name: str) -> None:
    arguments = SEVEN_CLASSES.get(source, {"num_classes": 7})
    backbone = topwork.load_backbone(name, weights="random", model_args=arguments)
    assert backbone.classifier
    seen = []
    backbone.module.get_submodule(backbone.classifier).register_forward_hook(lambda _m, _i, output: seen.append(output))
    height, width = backbone.input_spec.size
    output = backbone.run((torch.zeros(1, 3, height, width),))
    assert output.shape == (1, 7)
    assert torch.equal(seen[0], output)


def test_preprocessing_can_be_overridden(name: str) -> None:
    spec = topwork.load_backbone(
        name, weights="random", mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3), size=64, crop=1.0, interpolation="box"
    ).input_spec
    expected = topwork.ImageSpec((64, 64), 64, "shorter", "box", (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    assert spec == replace(expected, crop_rounding=spec.crop_rounding)


@pytest.mark.parametrize("pretrained", [None, "random"])
def test_argument_that_the_architecture_does_not_take_is_an_input_error(name: str, pretrained: str | None) -> None:
    with pytest.raises(InputError, match="nonsense"):
        topwork.load_backbone(name, weights=pretrained, model_args={"nonsense": 1})


def test_unknown_model_of_a_source_is_an_input_error(source: str, folder: Path) -> None:
    unknown = str(folder / "no_such_network") if source == "hf" else "no_such_network"  # else the hub would be asked
    with pytest.raises(InputError, match="no_such_network"):
        topwork.load_backbone(f"{source}:{unknown}", weights="random")


def test_input_specification_of_the_user_replaces_the_models_own(name: str) -> None:
    spec = topwork.ImageSpec((48, 40), 50, interpolation="box")
    assert topwork.load_backbone(name, weights="random", input_spec=spec).input_spec == spec
    assert topwork.load_backbone(name, weights="random", input_spec=spec, crop=1.0).input_spec.resize == 40


@pytest.mark.parametrize("backbone", ["resnet50", "timm:", ":resnet50", "keras:resnet50", ""])
def test_name_without_a_known_source_is_refused_with_examples(backbone: str) -> None:
    with pytest.raises(InputError, match=f"'{backbone}'.*topwork:tiny, timm:resnet50"):
        find_loader(backbone)


def test_absent_package_is_named_with_its_installation() -> None:
    with pytest.raises(MissingPackageError, match=r"timm:resnet50 .*absent.*pip install") as caught:
        require_package("absent", "timm:resnet50")
    assert isinstance(caught.value, ImportError)
    assert caught.value.exit_code == 3
