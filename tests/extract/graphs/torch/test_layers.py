"""Cuts are listed with their shapes, and the channels of a map are found whatever its layout and sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import topwork
import torch
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.export import export
from topwork.extract.graphs.layer import Layer
from topwork.extract.graphs.torch.tokens import find_own_pooling
from topwork.extract.graphs.torch.trace import trace
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

VIT = ("timm:vit_tiny_patch16_224", {"depth": 2})
SWIN = ("timm:swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 1, 2, 2)})
MIXER = ("timm:mixer_s32_224", {})
RESNET = ("timm:resnet18", {})


@pytest.fixture(scope="module")
def load() -> Callable[[str, dict[str, Any]], topwork.Backbone]:
    """Return a function that loads a model once, so that it is traced once."""
    loaded: dict[str, topwork.Backbone] = {}

    def load_once(name: str, arguments: dict[str, Any]) -> topwork.Backbone:
        key = f"{name} {arguments}"
        if key not in loaded:
            loaded[key] = topwork.load_backbone(name, weights="random", model_args=arguments)
        return loaded[key]

    return load_once


def layers_of(backbone: topwork.Backbone) -> dict[str, Layer]:
    return {layer.name: layer for layer in topwork.layers(backbone)}


def plain(layer: Layer) -> Layer:
    """Return a layer without what lies below it."""
    return replace(layer, parameters=0.0, flops=0.0, single_tensor=False)


def test_layers_of_the_builtin_backbone(tiny: topwork.Backbone) -> None:
    found = topwork.layers(tiny)
    by_name = {layer.name: plain(layer) for layer in found}
    assert by_name["layer1"] == Layer("layer1", (16, 32, 32), "map", 0)
    assert by_name["layer2"] == Layer("layer2", (40, 16, 16), "map", 0)
    assert by_name["layer3"] == Layer("layer3", (80, 8, 8), "map", 0)
    assert by_name["pool"] == Layer("pool", (80, 1, 1), "map", 0)
    assert by_name["fc"] == Layer("fc", (10,), "vector")
    assert plain(found[-1]) == Layer("last", (80,), "vector")
    assert len(by_name) == len(found)  # every name once


def test_repeated_activation_of_a_residual_block_is_listed_twice() -> None:
    found = list(layers_of(topwork.load_backbone("torchvision:resnet18", weights="random", size=64)))
    start = found.index("layer1.0.bn1")
    assert found[start : start + 5] == [
        "layer1.0.bn1",
        "layer1.0.relu",
        "layer1.0.conv2",
        "layer1.0.bn2",
        "layer1.0.relu@2",
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        (
            *SWIN,
            {
                "patch_embed.proj": ((24, 56, 56), 0),
                "layers.0": ((56, 56, 24), -1),
                "layers.1.downsample": ((28, 28, 48), -1),
                "norm": ((7, 7, 192), -1),
            },
        ),
        pytest.param(
            "timm:convnext_atto",
            {},
            {"stem": ((40, 56, 56), 0), "stages.1": ((80, 28, 28), 0), "stages.3": ((320, 7, 7), 0)},
            marks=pytest.mark.coverage,
        ),
    ],
)
def test_channels_of_published_models(
    name: str, arguments: dict[str, Any], expected: dict[str, tuple[tuple[int, ...], int]], load: Any
) -> None:
    found = layers_of(load(name, arguments))
    assert {layer: (found[layer].shape, found[layer].channel_axis) for layer in expected} == expected


class ChannelsLast(nn.Module):
    """A model that changes to channels last and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem, self.bn, self.act = nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        self.norm, self.mix, self.gate = nn.LayerNorm(width), nn.Linear(width, width), nn.Sigmoid()
        self.back, self.fc = nn.Conv2d(width, width, 1), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.stem(x)))
        x = self.gate(self.mix(self.norm(x.permute(0, 2, 3, 1))))  # (batch, height, width, channels)
        return self.fc(self.back(x.permute(0, 3, 1, 2)).mean((2, 3)))


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 8), (8, 8, 5), (8, 16, 8), (16, 8, 8), (6, 7, 5)])
def test_channels_are_found_whatever_the_sides(height: int, width: int, channels: int) -> None:
    spec = topwork.ImageSpec(size=(height, width), resize=8)
    found = layers_of(topwork.load_backbone(ChannelsLast(channels), input_spec=spec))
    first, last = ("stem", "bn", "act", "back"), ("norm", "mix", "gate")
    assert {name: found[name].channel_axis for name in first} == dict.fromkeys(first, 0)
    assert {name: found[name].channel_axis for name in last} == dict.fromkeys(last, -1)
    assert all(found[name].shape == (channels, height, width) for name in first)
    assert all(found[name].shape == (height, width, channels) for name in last)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.flat, self.norm = nn.Conv2d(3, 6, 4, 4), nn.Flatten(2), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.flat(self.patch(x)).transpose(1, 2)).mean(1)


def test_sequence_is_listed_as_tokens() -> None:
    found = layers_of(topwork.load_backbone(Tokens(), input_spec=topwork.ImageSpec((8, 8), 8)))
    assert plain(found["norm"]) == Layer("norm", (4, 6), "tokens")
    assert plain(found["last"]) == Layer("last", (6,), "vector")


def test_shares_of_parameters_and_flops_are_those_of_the_model(load: Any) -> None:
    backbone = load(*RESNET)
    found, state = layers_of(backbone), backbone.module.state_dict()
    total = sum(tensor.numel() for tensor in state.values())
    stem = sum(tensor.numel() for name, tensor in state.items() if name.startswith(("conv1.", "bn1.")))
    assert found["bn1"].parameters == pytest.approx(stem / total, rel=1e-3)  # bar the batch counters
    convolution = 2 * 64 * 112 * 112 * 3 * 7 * 7
    with FlopCounterMode(display=False) as counter:
        backbone.module(torch.zeros(1, 3, 224, 224))
    assert found["conv1"].flops == pytest.approx(convolution / counter.get_total_flops())
    assert (found["fc"].parameters, found["fc"].flops) == (1.0, 1.0)


def test_single_tensor_cut_is_one_that_no_shortcut_goes_around(tiny: topwork.Backbone) -> None:
    found = layers_of(tiny)
    assert all(found[name].single_tensor for name in ("stem", "layer1", "layer2.0", "layer2", "layer3", "pool", "last"))
    assert not any(found[name].single_tensor for name in ("layer1.0.conv1", "layer2.0.bn2", "layer2.0.shortcut"))


@pytest.mark.parametrize(
    ("name", "arguments", "layer", "prefix"),
    [
        (*VIT, "blocks.1.attn.proj", 1),
        (*VIT, "patch_embed", 0),
        ("timm:vit_small_patch14_reg4_dinov2", {"depth": 1, "img_size": 56}, "norm", 5),
        (*MIXER, "norm", 0),
        pytest.param("timm:deit_tiny_distilled_patch16_224", {"depth": 2}, "norm", 2, marks=pytest.mark.coverage),
        pytest.param("timm:cait_xxs24_224", {"depth": 2}, "norm", 1, marks=pytest.mark.coverage),
        pytest.param(
            "torchvision:vit_b_16",
            {"num_classes": 3},
            "encoder.layers.encoder_layer_1.self_attention",
            1,
            marks=pytest.mark.coverage,
        ),
    ],
)
def test_tokens_that_are_not_of_the_image_are_counted(
    name: str, arguments: dict[str, Any], layer: str, prefix: int, load: Any
) -> None:
    found = layers_of(load(name, arguments))
    assert (found[layer].kind, found[layer].prefix_tokens) == ("tokens", prefix)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        (*VIT, "cls"),
        (*MIXER, "mean"),
        (*RESNET, "avg"),
        (*SWIN, "avg"),
    ],
)
def test_own_pooling_of_a_model_is_found(name: str, arguments: dict[str, Any], expected: str, load: Any) -> None:
    assert find_own_pooling(trace(load(name, arguments))) == expected


def test_transformer_is_exported_with_several_poolings_of_its_tokens(load: Any, tmp_path: Path) -> None:
    graph = export(load(*VIT), CutRequest(("blocks.0", "norm"), ("cls+mean", "gem")), tmp_path / "graph")
    assert [(column.name, column.width) for column in graph.metadata.columns] == [
        ("blocks.0.cls+mean", 384),
        ("blocks.0.gem", 192),
        ("norm.cls+mean", 384),
        ("norm.gem", 192),
    ]
