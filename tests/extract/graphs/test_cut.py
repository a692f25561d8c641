"""A cut yields what hooks on the untouched model see, keeps nothing above it, and names its columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import topwork
import torch
from topwork.errors import LayerError
from topwork.extract.graphs.cut import Cut, CutRequest, choose
from topwork.extract.graphs.cutting import cutter_for
from topwork.extract.graphs.export import export
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.torch.cut_model import cut_module
from topwork.extract.graphs.torch.cutter import TorchCutter
from torch import Tensor, nn

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def normalised(backbone: topwork.Backbone, images: np.ndarray) -> Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.input_spec.mean, backbone.input_spec.std))
    return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std


def choose_on(backbone: topwork.Backbone, layers: list[str], pools: list[str]) -> Cut:
    return choose(cutter_for(backbone), CutRequest(tuple(layers), tuple(pools)))


def module_of(cut: Cut) -> nn.Module:
    assert isinstance(cut.cutter, TorchCutter)
    return cut_module(cut.cutter.traced, cut)


@pytest.fixture(scope="module")
def resnet18() -> topwork.Backbone:
    return topwork.load_backbone("torchvision:resnet18", weights="random", size=64)


def test_cut_before_an_in_place_activation_and_between_its_calls(resnet18: topwork.Backbone) -> None:
    names = ["layer1.0.bn2", "layer1.0.relu", "layer1.0.relu@2"]
    with torch.no_grad():
        found = [f.numpy() for f in module_of(choose_on(resnet18, names, ["flatten"]))(torch.from_numpy(IMAGES))]
        net, block = resnet18.module, resnet18.module.get_submodule("layer1.0")
        x = net.maxpool(torch.relu(net.bn1(net.conv1(normalised(resnet18, IMAGES)))))
        first = torch.relu(block.bn1(block.conv1(x)))
        bn2 = block.bn2(block.conv2(first))
        expected = [value.flatten(1).numpy() for value in (bn2, first, torch.relu(bn2 + x))]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert expected[0].min() < 0
    assert np.abs(expected[1] - expected[2]).max() > 0.1


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm, self.fc = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.patch(x).permute(0, 2, 3, 1)).mean((1, 2)))


def test_channels_last_map_is_pooled_over_height_and_width() -> None:
    torch.manual_seed(0)
    backbone = topwork.load_backbone(ChannelsLast(), input_spec=topwork.ImageSpec((64, 64), 64))
    # 16 rows, 16 columns and 16 channels: their number does not tell the axes apart
    features = topwork.Extractor(backbone, layer="norm", pool=["avg", "max"]).transform(IMAGES)
    with torch.no_grad():
        net = backbone.module
        values = net.norm(net.patch(normalised(backbone, IMAGES)).permute(0, 2, 3, 1)).numpy()
    np.testing.assert_allclose(features, np.hstack([values.mean((1, 2)), values.max((1, 2))]), rtol=1e-4, atol=1e-5)


def test_nothing_above_the_last_cut_is_kept(tiny: topwork.Backbone) -> None:
    cut = module_of(choose_on(tiny, ["layer1", "layer2"], ["avg"]))
    names = [name.replace("_", ".") for name, _ in (*cut.named_parameters(), *cut.named_buffers())]
    assert any("layer2.1.bn2" in name for name in names)
    assert not any("layer3" in name or "fc" in name for name in names)
    kept = sum(p.numel() for p in cut.parameters())
    modules = [tiny.module.get_submodule(name) for name in ("stem", "layer1", "layer2")]
    assert kept == sum(p.numel() for m in modules for p in m.parameters())


@pytest.mark.parametrize("name", ["timm:resnet18", pytest.param("timm:resnet50", marks=pytest.mark.coverage)])
def test_cut_at_layer2_is_a_small_file(name: str, tmp_path: Path) -> None:
    backbone = topwork.load_backbone(name, weights="random", size=32)
    size = export(backbone, CutRequest(("layer2",), ("avg",)), tmp_path / "graph").path.stat().st_size
    sizes = {name: 4 * parameter.numel() for name, parameter in backbone.module.named_parameters()}
    whole = sum(size for name, size in sizes.items() if not name.startswith("fc"))  # the least a cut at last can take
    below = sum(size for name, size in sizes.items() if name.startswith(("conv1", "bn1", "layer1", "layer2")))
    assert size < whole / 10
    assert 0.95 * below < size < 1.1 * below


def test_whole_model_holds_at_least_its_parameters(tiny: topwork.Backbone, tiny_graph: ExportedGraph) -> None:
    parameters = sum(p.numel() for n, p in tiny.module.named_parameters() if not n.startswith("fc") and "bn" not in n)
    assert tiny_graph.path.stat().st_size > 4 * parameters


@pytest.mark.parametrize(
    ("layers", "pools", "expected"),
    [
        (["layer2"], ["avg"], ("layer2",)),
        (["layer2", "last"], ["max", "avg"], ("layer2.max", "layer2.avg", "last")),
        (["last", "layer1", "last"], ["avg", "avg"], ("last", "layer1")),
    ],
)
def test_outputs_are_named_and_ordered_as_asked(
    layers: list[str], pools: list[str], expected: tuple[str, ...], tiny: topwork.Backbone
) -> None:
    assert choose_on(tiny, layers, pools).names == expected


def test_volume_is_pooled_over_all_its_axes_but_the_channels() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Unflatten(1, (3, 1)), nn.Conv3d(3, 2, (1, 3, 2)), nn.Flatten())
    backbone = topwork.load_backbone(module, input_spec=topwork.ImageSpec((64, 64), 64))
    layer = next(layer for layer in topwork.layers(backbone) if layer.name == "1")
    assert (layer.shape, layer.kind, layer.channel_axis) == ((2, 1, 62, 63), "map", 0)
    features = topwork.Extractor(backbone, layer="1", pool=["avg", "max"]).transform(IMAGES)
    with torch.no_grad():
        values = module[:2](normalised(backbone, IMAGES)).numpy()
    np.testing.assert_allclose(features, np.hstack([values.mean((2, 3, 4)), values.max((2, 3, 4))]), 1e-4, 1e-5)
    with pytest.raises(LayerError, match=r"'avg2x2'.*'1'"):
        choose_on(backbone, ["1"], ["avg2x2"])
