"""Curves of a report: by the number of labels and by the layer, and why there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import topwork
from topwork.pipelines.report import write_report
from topwork.pipelines.report.charts import draw_curve
from topwork.pipelines.report.curves import ScoreCurve, compute_curves

from .parsed_page import read_page


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> topwork.FeatureStore:
    """Return a store of 120 images of three classes, with two layers."""
    folder = tmp_path_factory.mktemp("curves")
    generator = np.random.default_rng(0)
    labels = np.arange(120) % 3
    levels = 70 + 50 * labels + generator.normal(0, 18, 120)
    images = generator.normal(levels[:, None, None, None], 15, (120, 40, 40, 3)).clip(0, 255).astype(np.uint8)
    np.savez(folder / "images.npz", X=images, y=np.array(["a", "b", "c"])[labels])
    extractor = topwork.Extractor("topwork:tiny", layer=["layer1", "layer2"], pool="avg", precision="fp32")
    opened = topwork.FeatureStore.create(folder / "store", extractor)
    topwork.extract_features(folder / "images.npz", opened)
    return opened


def test_curves_of_a_store_are_on_the_page(store: topwork.FeatureStore, tmp_path: Path) -> None:
    classifier = topwork.TransferClassifier.from_store(store, layer="layer1", cv=0).fit(store)
    classifier.save(tmp_path / "bundle")
    written = write_report(tmp_path / "bundle", tmp_path / "report.html", store, audit=False)
    page = read_page(tmp_path / "report.html")
    assert {"learning", "layers"} <= set(page.ids)
    assert "each doubling added" in page.text
    assert "Recommended: " in page.text
    assert not any("curve" in text for text in written["missing"])
    without = write_report(tmp_path / "bundle", tmp_path / "other.html", store, audit=False, curves=False)
    assert "learning" not in read_page(tmp_path / "other.html").ids
    assert without["bytes"] < written["bytes"]


def test_scores_grow_with_labels(store: topwork.FeatureStore) -> None:
    missing: list[str] = []
    learning, layers = compute_curves(store, "layer1", "classification", missing)
    assert missing == []
    assert learning.labels[:2] == ["6", "12"]
    assert learning.scores[-1] > learning.scores[0]
    assert np.all(np.array(learning.lows) <= learning.scores)
    assert np.all(np.array(learning.highs) >= learning.scores)
    assert layers.labels[:2] == ["layer1", "layer2"]


def test_what_cannot_be_computed_is_said(store: topwork.FeatureStore) -> None:
    missing: list[str] = []
    assert compute_curves(store[np.arange(2)], "layer1", "classification", missing) == []
    assert [text.partition(":")[0] for text in missing] == [
        "There is no learning curve",
        "There is no curve of the layers",
    ]


def test_curve_is_drawn_with_its_intervals() -> None:
    names = ["blocks.1.attention", "last"]
    curve = ScoreCurve("layers", "", names, [0.5, 0.9], [0.4, 0.8], [0.6, 0.95], ("layer", "accuracy"))
    drawn = str(draw_curve(curve))
    assert "<title>blocks.1.attention: 0.500 (0.400 to 0.600)</title>" in drawn
    assert "…ttention" in drawn
    assert drawn.count("<circle") == 2
