"""Canaries: what a graph computes is compared with what it computed, wherever it is opened."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from topwork.errors import DriftError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs.editing import select_columns
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.jobs.job import extract_features
from topwork.extract.store.feature_store import FeatureStore
from topwork.identity import digest_of_file
from topwork.pipelines.estimators.load import load
from topwork.pipelines.estimators.transfer_classifier import TransferClassifier

WriteImages = Callable[..., Path]


def disturb(path: Path, column: str, factor: float) -> None:
    """Let canaries say that one item's features were larger."""
    with np.load(path) as kept:
        arrays = dict(kept)
    arrays[f"column:{column}"] = arrays[f"column:{column}"].copy()
    arrays[f"column:{column}"][1] *= factor
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    path.write_bytes(stream.getvalue())


@pytest.fixture
def graph(tiny_graph: ExportedGraph, tmp_path: Path) -> ExportedGraph:
    graph = select_columns(tiny_graph, ["layer2.avg", "last"], tmp_path / "graph.onnx")
    graph.canaries.write(graph.open())
    return graph


def test_same_graph_does_not_drift(graph: ExportedGraph) -> None:
    assert set(graph.canaries.measure_drift(graph.open())) == {"layer2.avg", "last"}
    assert max(graph.canaries.measure_drift(graph.open("cpu")).values()) < 1e-4


def test_canaries_are_synthetic_and_the_same_everywhere(graph: ExportedGraph) -> None:
    before = graph.canaries_path.read_bytes()
    graph.canaries.write(graph.open())
    assert graph.canaries_path.read_bytes() == before
    with np.load(graph.canaries_path, allow_pickle=False) as kept:
        assert kept["item:0"].dtype == np.uint8
        assert kept["item:0"].std() > 20
        assert json.loads(str(kept["origin"]))["provider"] in ("cpu", "openvino")


def test_texts_have_canaries_too(text_folder: Path, tmp_path: Path) -> None:
    graph = select_columns(Extractor(f"hf:{text_folder}").graph, ["last"], tmp_path / "graph.onnx")
    graph.canaries.write(graph.open())
    assert max(graph.canaries.measure_drift(graph.open()).values()) < 1e-4
    disturb(graph.canaries_path, "last", 1.1)
    with pytest.raises(DriftError):
        graph.open()


def test_drift_refuses_and_names_column_and_origin(graph: ExportedGraph) -> None:
    disturb(graph.canaries_path, "last", 1.01)
    with pytest.raises(DriftError, match=r"0\.0099 .*'last'.*1e-03.*onnxruntime"):
        graph.open()


def test_small_differences_are_no_drift(graph: ExportedGraph) -> None:
    disturb(graph.canaries_path, "last", 1.0005)
    graph.open()


@pytest.mark.parametrize("spoiled", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_drift(graph: ExportedGraph, spoiled: float) -> None:
    disturb(graph.canaries_path, "layer2.avg", spoiled)
    with pytest.raises(DriftError):
        graph.open()


def test_store_keeps_canaries_and_refuses_to_go_on_after_drift(write_images: WriteImages, tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "store", Extractor("topwork:tiny"))
    extract_features(write_images(each=1), store)
    assert store.graph.canaries_path.is_file()
    assert store.verify() == []
    disturb(store.graph.canaries_path, "last", 2)
    with pytest.raises(DriftError, match="last"):
        extract_features(write_images(each=2), store)
    assert FeatureStore.open(store.path).ids == ["cat/0.png", "dog/0.png"]


def test_bundle_refuses_to_predict_after_drift(write_images: WriteImages, tmp_path: Path) -> None:
    images = write_images(each=3)
    TransferClassifier("topwork:tiny").fit(images).save(tmp_path / "bundle")
    assert load(tmp_path / "bundle").predict(images).tolist() == ["cat"] * 3 + ["dog"] * 3
    path, manifest = tmp_path / "bundle" / "extractor.canaries.npz", tmp_path / "bundle" / "bundle.json"
    before = digest_of_file(path)
    disturb(path, "last", 2)
    manifest.write_text(manifest.read_text().replace(before, digest_of_file(path)))
    with pytest.raises(DriftError):
        load(tmp_path / "bundle").predict(images)
