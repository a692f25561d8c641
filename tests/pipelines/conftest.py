"""Fixtures of the pipelines: real photographs in labelled folders, and one exported graph with three layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.preprocess.decode import decode
from topwork.extract.preprocess.resize import to_pixels

REGIONS = {"flower": ("flower.jpg", 0, 427), "roof": ("china.jpg", 220, 427), "sky": ("china.jpg", 0, 130)}
EACH = 8


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of crops of photographs, ``{flower,roof,sky}/{number}.png``; it is not to be changed."""
    generator, folder = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    for label, (name, top, bottom) in REGIONS.items():
        (folder / label).mkdir()
        region = load_sample_image(name)[top:bottom]
        for number in range(EACH):
            row, column = generator.integers(0, region.shape[0] - 60), generator.integers(0, 640 - 80)
            Image.fromarray(region[row : row + 60, column : column + 80]).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def paths(photos: Path) -> list[Path]:
    """Return the photographs' paths, in the order in which the folder yields them."""
    return sorted(photos.rglob("*.png"))


@pytest.fixture(scope="session")
def names(paths: list[Path]) -> NDArray[np.str_]:
    """Return the photographs' labels."""
    return np.array([path.parent.name for path in paths])


@pytest.fixture(scope="session")
def graph(graph_cache: Path) -> ExportedGraph:
    """Return the built-in backbone, exported at three layers; it can stand where a backbone is asked for."""
    return Extractor("topwork:tiny", layer=["layer1", "layer2", "layer3"]).graph


@pytest.fixture(scope="session")
def text_graph(graph_cache: Path, text_folder: Path) -> ExportedGraph:
    """Return the small BERT, exported at two layers; it can stand where a backbone is asked for."""
    return Extractor(f"hf:{text_folder}", layer=["encoder.layer.0", "last"]).graph


@pytest.fixture(scope="session")
def text_table(texts: tuple[list[str], list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sentences with their topics as a table with the columns ``text`` and ``label``."""
    path = tmp_path_factory.mktemp("table") / "texts.csv"
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in zip(*texts, strict=True)))
    return path


@pytest.fixture(scope="session")
def pixels(paths: list[Path], graph: ExportedGraph) -> NDArray[np.uint8]:
    """Return the photographs as an exported graph takes them: ``(batch, height, width, 3)``."""
    spec = graph.input_spec
    return np.stack([to_pixels(decode(path.read_bytes(), spec), spec) for path in paths])
