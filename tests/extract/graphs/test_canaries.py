"""Canaries: what a graph computes is compared with what its model computes, wherever it is opened."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from topwork.errors import DriftError, ProviderError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs.canaries import CANARY_COUNT, Canaries
from topwork.extract.graphs.editing import select_columns
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.jobs.job import extract_features
from topwork.extract.store.feature_store import FeatureStore
from topwork.identity import digest_of_file
from topwork.models.loading import load_backbone
from topwork.pipelines.estimators.load import load
from topwork.pipelines.estimators.transfer_classifier import TransferClassifier

WriteImages = Callable[..., Path]


def change_canaries(path: Path, column: str, factor: float) -> None:
    """Let the model's features of one canary be larger."""
    with np.load(path) as kept:
        arrays = dict(kept)
    name = f"reference:{column}"
    arrays[name] = arrays[name].copy()
    arrays[name][1] *= factor
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    path.write_bytes(stream.getvalue())


def read_canaries(graph: ExportedGraph) -> Canaries:
    assert graph.canaries is not None
    return graph.canaries


@pytest.fixture
def graph(tiny_graph: ExportedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExportedGraph:
    """Return a graph of which nothing was measured yet."""
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    return select_columns(tiny_graph, ["layer2.avg", "last"], tmp_path / "graph.onnx")


def test_canaries_hold_what_the_model_computes(graph: ExportedGraph) -> None:
    canaries = read_canaries(graph)
    backbone = load_backbone("topwork:tiny")
    pixels = [Extractor("topwork:tiny").preprocessor.prepare(item).array for item in canaries.items]
    scaled = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.input_spec.mean, backbone.input_spec.std))
    found: list[torch.Tensor] = []
    backbone.module.fc.register_forward_hook(lambda module, inputs, output: found.append(inputs[0]))
    backbone.module((scaled - mean) / std)
    np.testing.assert_allclose(canaries.reference["last"], found[0].numpy(), rtol=1e-4, atol=1e-5)


def test_canaries_are_synthetic_items_of_several_sizes(graph: ExportedGraph) -> None:
    items = read_canaries(graph).items
    assert len(items) == CANARY_COUNT == 8
    assert all(item.dtype == np.uint8 and item.std() > 20 for item in items)
    assert len({item.shape for item in items}) >= 2
    assert set(read_canaries(graph).reference) == {"layer2.avg", "last"}


def test_texts_have_canaries_of_several_lengths(
    text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = Extractor(f"hf:{text_folder}").graph
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))  # in which nothing was measured yet
    graph = select_columns(exported, ["last"], tmp_path / "graph.onnx")
    assert len({len(text) for text in read_canaries(graph).items}) == CANARY_COUNT
    graph.open()
    change_canaries(graph.canaries_path, "last", 1.1)
    with pytest.raises(ProviderError, match=r"'cpu'.*0\.09"):
        graph.open("cpu")


def test_first_session_is_measured_and_that_is_remembered(graph: ExportedGraph) -> None:
    graph.open("cpu")
    (measured,) = graph.certificate.measurements
    assert (measured.provider, measured.precision, measured.runtime) == ("cpu", "fp32", "onnxruntime")
    assert set(measured.batch_sizes) >= {1, 2, 5, 8}
    assert measured.relative_l2 < 1e-4
    assert measured.passes
    graph.open("cpu")
    assert graph.certificate.measurements == (measured,)


def test_provider_that_computes_something_else_is_refused_by_name(graph: ExportedGraph) -> None:
    change_canaries(graph.canaries_path, "last", 1.01)
    with pytest.raises(ProviderError, match=r"'cpu'.*0\.0099 in column 'last'"):
        graph.open("cpu")
    with pytest.raises(ProviderError, match=r"'cpu'.*0\.0099 in column 'last'"):
        graph.open("cpu")  # remembered, without loading it


def test_provider_that_changes_its_features_has_drifted(graph: ExportedGraph) -> None:
    graph.open("cpu")
    graph.write_measurements()
    change_canaries(graph.canaries_path, "last", 1.02)
    with pytest.raises(DriftError, match=r"0\.02 in column 'last'.*onnxruntime"):
        graph.open("cpu")


def test_small_differences_are_accepted(graph: ExportedGraph) -> None:
    change_canaries(graph.canaries_path, "last", 1.0005)
    graph.open()


@pytest.mark.parametrize("spoiled", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(graph: ExportedGraph, spoiled: float) -> None:
    change_canaries(graph.canaries_path, "layer2.avg", spoiled)
    with pytest.raises(ProviderError, match=r"layer2\.avg"):
        graph.open("cpu")


def test_store_keeps_canaries_and_refuses_to_go_on_after_drift(
    write_images: WriteImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = Extractor("topwork:tiny")
    assert extractor.graph.path.is_file()
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))  # in which nothing was measured yet
    store = FeatureStore.create(tmp_path / "store", extractor)
    extract_features(write_images(each=1), store, provider="cpu")
    assert {m.provider for m in store.graph.certificate.measurements if m.passes} == {"cpu"}
    assert store.verify() == []
    change_canaries(store.graph.canaries_path, "last", 3)
    with pytest.raises(DriftError, match="last"):
        extract_features(write_images(each=2), store, provider="cpu")
    assert FeatureStore.open(store.path).ids == ["cat/0.png", "dog/0.png"]


def test_damaged_canaries_are_named_and_repaired(write_images: WriteImages, tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "store", Extractor("topwork:tiny"))
    extract_features(write_images(each=1), store)
    store.graph.canaries_path.write_bytes(b"damaged")
    with pytest.raises(Exception, match=store.graph.canaries_path.name):
        extract_features(write_images(each=2), store)
    store.repair()
    assert extract_features(write_images(each=2), FeatureStore.open(store.path)).ok == 4
    assert FeatureStore.open(store.path).verify() == []


def test_bundle_refuses_to_predict_after_drift(write_images: WriteImages, tmp_path: Path) -> None:
    images = write_images(each=3)
    TransferClassifier("topwork:tiny", provider="cpu").fit(images).save(tmp_path / "bundle")
    assert load(tmp_path / "bundle").predict(images).tolist() == ["cat"] * 3 + ["dog"] * 3
    path, manifest = tmp_path / "bundle" / "extractor.canaries.npz", tmp_path / "bundle" / "bundle.json"
    before = digest_of_file(path)
    change_canaries(path, "last", 2)
    manifest.write_text(manifest.read_text().replace(before, digest_of_file(path)))
    with pytest.raises(DriftError):
        load(tmp_path / "bundle").predict(images)


def test_graph_without_canaries_runs_where_its_certificate_was_made(graph: ExportedGraph) -> None:
    graph.canaries_path.unlink()
    graph.open("cpu")
    graph.write_certificate(replace(graph.certificate, provider="cuda"))
    with pytest.raises(ProviderError, match=r"'cpu' was never compared.*cuda"):
        graph.open("cpu")


def test_graph_of_an_earlier_version_is_compared_with_its_own_canaries(graph: ExportedGraph) -> None:
    session = graph.open("cpu")
    graph.canaries_path.unlink()
    graph.write_session_canaries(session)
    graph.open("cpu")
    with np.load(graph.canaries_path) as kept:
        arrays = dict(kept)
    arrays["column:last"] = arrays["column:last"] * 1.01
    np.savez(graph.canaries_path, **arrays)
    with pytest.raises(DriftError, match=r"0\.0099.*'last'.*provider cpu"):
        graph.open("cpu")
