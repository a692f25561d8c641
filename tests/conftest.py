"""Fixtures that several folders of tests share: real data, real weights, a cache of exported graphs."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def graph_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Export into a cache of this run alone, and let subprocesses share it."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("TOPWORK_CACHE")
    os.environ["TOPWORK_CACHE"] = str(folder)
    yield folder
    os.environ.pop("TOPWORK_CACHE")
    if before is not None:
        os.environ["TOPWORK_CACHE"] = before


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of real data; without it tests are skipped, in CI they fail."""
    if not DATA.is_dir():
        message = f"the real data are not at {DATA}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    return DATA


@pytest.fixture(scope="session")
def hymenoptera(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked photographs of ants and bees, with ``train/`` and ``val/``."""
    folder = tmp_path_factory.mktemp("hymenoptera")
    with tarfile.open(data / "hymenoptera.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def mobilenet_options(data: Path) -> dict[str, object]:
    """Return the options of ``load_backbone`` for the real MobileNetV2 weights."""
    return {
        "weights": data / "backbones" / "mobilenetv2_035.in1k.safetensors",
        "model_args": {"num_classes": 0, "pad_type": "same", "bn_eps": 1e-3},
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a folder of small random PNG files, ``{label}/{number}.png``."""

    def write(name: str = "images", labels: tuple[str, ...] = ("cat", "dog"), each: int = 3, seed: int = 0) -> Path:
        generator = np.random.default_rng(seed)
        for label in labels:
            folder = tmp_path / name / label
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(each):
                pixels = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
        return tmp_path / name

    return write
