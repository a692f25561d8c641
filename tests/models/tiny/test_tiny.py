"""The built-in backbone: small, as accurate as it says, and described by its card."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import topwork
import torch
from PIL import Image
from topwork.models.from_topwork import WEIGHTS_FILE

FOLDER = WEIGHTS_FILE.parent


@pytest.fixture(scope="module")
def backbone() -> topwork.Backbone:
    return topwork.load_backbone("topwork:tiny")


def test_network_and_file_are_small(backbone: topwork.Backbone) -> None:
    parameters = sum(p.numel() for p in backbone.module.parameters())
    size = (FOLDER / "weights.safetensors").stat().st_size
    assert parameters <= 500_000
    assert size <= 1_500_000
    assert f"({size / 1e6:.2f} MB, {parameters:,} parameters)" in (FOLDER / "CARD.md").read_text(encoding="utf-8")


@pytest.mark.coverage
def test_own_head_reaches_the_accuracy_of_the_card(backbone: topwork.Backbone, data: Path) -> None:
    images, labels = read_test_images(data / "cifar10-test.tar.gz")
    assert images.shape == (10_000, 32, 32, 3)
    accuracy = accuracy_of(backbone, images, labels)
    assert accuracy >= 0.83
    assert accuracy == pytest.approx(stated_accuracy(), abs=2e-3)


def test_own_head_is_near_the_accuracy_of_the_card_on_a_tenth_of_the_images(
    backbone: topwork.Backbone, data: Path
) -> None:
    images, labels = read_test_images(data / "cifar10-test.tar.gz", step=10)
    assert images.shape == (1_000, 32, 32, 3)
    assert accuracy_of(backbone, images, labels) == pytest.approx(stated_accuracy(), abs=0.035)  # three deviations


def stated_accuracy() -> float:
    stated = re.search(r"Accuracy \| (0\.\d+)", (FOLDER / "CARD.md").read_text(encoding="utf-8"))
    assert stated is not None
    return float(stated[1])


def accuracy_of(backbone: topwork.Backbone, images: np.ndarray, labels: np.ndarray) -> float:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.input_spec.mean, backbone.input_spec.std))
    with torch.inference_mode():
        scores = [
            backbone.module((batch.permute(0, 3, 1, 2) / 255 - mean) / std)
            for batch in torch.from_numpy(images).split(250)
        ]
    return float((torch.cat(scores).argmax(1).numpy() == labels).mean())


def read_test_images(path: Path, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Read every `step`-th image, and the number of its class in order of name."""
    images = []
    names = []
    with tarfile.open(path) as archive:
        members = [member for member in archive if member.name.endswith(".jpg")]
        for member in members[::step]:
            file = archive.extractfile(member)
            assert file is not None
            images.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
            names.append(member.name.split("/")[-2])
    return np.stack(images), np.searchsorted(np.unique(names), names)
