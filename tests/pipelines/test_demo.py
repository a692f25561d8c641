"""The demo reports what it measured in the run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import topwork
from PIL import Image
from sklearn.datasets import load_digits
from topwork import FeatureStore

ROW = re.compile(r"(raw pixels|(?:random )?layer\d) +(\d+) +(0\.\d{3}) +(0\.\d{3})")


def test_best_layer_beats_raw_pixels_and_the_random_network(demo: tuple[Path, str]) -> None:
    accuracy = {name: float(mean) for name, _, mean, _ in ROW.findall(demo[1])}
    layers = ["layer1", "layer2", "layer3"]
    assert list(accuracy) == ["raw pixels", *(f"random {layer}" for layer in layers), *layers]
    best = max(layers, key=accuracy.__getitem__)
    assert f"Best layer: {best}" in demo[1]
    assert accuracy[best] > max(value for name, value in accuracy.items() if name not in layers) + 0.02
    assert accuracy["raw pixels"] == pytest.approx(0.883, abs=0.02)


def test_spread_over_draws_is_measured(demo: tuple[Path, str]) -> None:
    assert all(0 < float(spread) < 0.05 for _, _, _, spread in ROW.findall(demo[1]))


def test_fused_file_agrees_on_every_image(demo: tuple[Path, str]) -> None:
    found = re.search(r"label on (\d+) of (\d+) images", demo[1])
    assert found is not None
    assert found[1] == found[2] == "100"


def test_times_of_extraction_and_refitting_stand_side_by_side(demo: tuple[Path, str]) -> None:
    assert re.search(r"Extracting took \d+\.\d\d s; refitting all 1,797 rows from the cache \d+\.\d\d s\.", demo[1])


def test_stores_bundle_and_images_are_what_the_report_says(demo: tuple[Path, str]) -> None:
    folder, digits = demo[0], load_digits()
    store = FeatureStore.open(folder / "features-pretrained")
    assert len(store.ids) == 1797
    assert store.verify() == []
    assert store.labels == [str(digits.target[int(Path(name).stem)]) for name in store.ids]
    for number in (0, 100, 1796):
        (path,) = (folder / "digits").glob(f"*/{digits.target[number]}/{number:04d}.png")
        assert np.array_equal(np.asarray(Image.open(path)), np.round(digits.images[number] * 255 / 16))
    assert topwork.load(folder / "bundle").score(store) > 0.95
