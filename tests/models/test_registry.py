"""Names of backbones, and one suite that the loader of every source passes."""

from __future__ import annotations

import pytest
import topwork
import torch
from topwork.errors import InputError, MissingPackageError
from topwork.models.registry import SOURCES, find_source, require_package

SMALL = {"topwork": "topwork:tiny", "timm": "timm:resnet10t", "torchvision": "torchvision:shufflenet_v2_x0_5"}


@pytest.fixture(scope="module", params=SOURCES)
def name(request: pytest.FixtureRequest) -> str:
    return SMALL[request.param]


def test_loader_returns_a_frozen_network_in_evaluation_mode(name: str) -> None:
    backbone = topwork.load_backbone(name, weights="random")
    assert not any(module.training for module in backbone.module.modules())
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    assert len(backbone.weights_digest) == 64
    assert backbone.name == name


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


def test_classifier_is_a_module_that_yields_the_network_output(name: str) -> None:
    backbone = topwork.load_backbone(name, weights="random", model_args={"num_classes": 7})
    assert backbone.classifier
    seen = []
    backbone.module.get_submodule(backbone.classifier).register_forward_hook(lambda _m, _i, output: seen.append(output))
    height, width = backbone.input_spec.size
    output = backbone.module(torch.zeros(1, 3, height, width))
    assert output.shape == (1, 7)
    assert torch.equal(seen[0], output)


def test_preprocessing_can_be_overridden(name: str) -> None:
    spec = topwork.load_backbone(
        name, weights="random", mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3), size=64, crop=1.0, interpolation="box"
    ).input_spec
    assert spec == topwork.ImageSpec((64, 64), 64, "shorter", "box", (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))


@pytest.mark.parametrize("pretrained", [None, "random"])
def test_argument_that_the_architecture_does_not_take_is_an_input_error(name: str, pretrained: str | None) -> None:
    with pytest.raises(InputError, match="nonsense"):
        topwork.load_backbone(name, weights=pretrained, model_args={"nonsense": 1})


def test_unknown_network_of_a_source_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError, match="no_such_network"):
        topwork.load_backbone(f"{name.partition(':')[0]}:no_such_network", weights="random")


@pytest.mark.parametrize("backbone", ["resnet50", "timm:", ":resnet50", "keras:resnet50", ""])
def test_name_without_a_known_source_is_refused_with_examples(backbone: str) -> None:
    with pytest.raises(InputError, match="expected a source and a name, such as topwork:tiny, timm:resnet50"):
        find_source(backbone)


def test_absent_package_is_named_with_its_installation() -> None:
    with pytest.raises(MissingPackageError, match=r"timm:resnet50 needs the package absent.*pip install") as caught:
        require_package("absent", "timm:resnet50")
    assert isinstance(caught.value, ImportError)
    assert caught.value.exit_code == 3
