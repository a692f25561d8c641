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

FOLDER = Path(topwork.models.__path__[0]) / "tiny"


@pytest.fixture(scope="module")
def backbone() -> topwork.Backbone:
    return topwork.load_backbone("topwork:tiny")


def test_network_and_file_are_small(backbone: topwork.Backbone) -> None:
    parameters = sum(p.numel() for p in backbone.module.parameters())
    size = (FOLDER / "weights.safetensors").stat().st_size
    assert parameters <= 500_000
    assert size <= 1_500_000
    assert f"({size / 1e6:.2f} MB, {parameters:,} parameters)" in (FOLDER / "CARD.md").read_text(encoding="utf-8")


def test_own_head_reaches_the_accuracy_of_the_card(backbone: topwork.Backbone, data: Path) -> None:
    images, labels = read_test_images(data / "cifar10-test.tar.gz")
    assert images.shape == (10_000, 32, 32, 3)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.input_spec.mean, backbone.input_spec.std))
    with torch.inference_mode():
        scores = [
            backbone.module((batch.permute(0, 3, 1, 2) / 255 - mean) / std)
            for batch in torch.from_numpy(images).split(250)
        ]
    accuracy = float((torch.cat(scores).argmax(1).numpy() == labels).mean())
    stated = re.search(r"Accuracy \| (0\.\d+)", (FOLDER / "CARD.md").read_text(encoding="utf-8"))
    assert stated is not None
    assert accuracy >= 0.83
    assert accuracy == pytest.approx(float(stated[1]), abs=2e-3)


def read_test_images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    images, names = [], []
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None and member.name.endswith(".jpg"):
                images.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
                names.append(member.name.split("/")[-2])
    return np.stack(images), np.searchsorted(np.unique(names), names)  # classes are numbered in order of name
