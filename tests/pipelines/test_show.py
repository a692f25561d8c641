"""What is told of a bundle, a store or an ONNX file is what they hold, and nothing in them is run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.ensemble import ExtraTreesClassifier
from topwork import FeatureStore, TransferClassifier, refit
from topwork.errors import InputError
from topwork.pipelines.show import describe_path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Return a folder with a store, two bundles, the second a child of the first, and a fused file."""
    folder = tmp_path_factory.mktemp("show")
    classifier = TransferClassifier("topwork:tiny", layer="layer1", head="lda", store=folder / "store", cv=2)
    classifier.fit(photos)
    classifier.save(folder / "bundle")
    classifier.to_onnx(folder / "model.onnx")
    refit(folder / "bundle", folder / "store", held_out=0.3).save(folder / "child")
    return folder


def test_bundle(place: Path) -> None:
    facts = describe_path(place / "bundle")
    assert (facts["kind"], facts["task"], facts["head"], facts["damage"]) == ("bundle", "classification", "lda", None)
    assert facts["bytes"] == sum(path.stat().st_size for path in (place / "bundle").iterdir())
    assert facts["backbone"] == "topwork:tiny"
    assert [column["layer"] for column in facts["columns"]] == ["layer1"]
    assert facts["rows"] == FeatureStore.open(place / "store").n_rows
    assert facts["report"]["n_folds"] == 2
    assert facts["certificate"]["worst"]["relative_l2"] < facts["certificate"]["tolerance"]
    child = describe_path(place / "child")
    assert child["lineage"]["metrics"]["metric"] == "accuracy"


def test_damaged_bundle_is_told(place: Path, tmp_path: Path) -> None:
    for path in (place / "bundle").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "extractor.canaries.npz").write_bytes(b"x")
    assert "extractor.canaries.npz" in describe_path(tmp_path)["damage"]


def test_head_of_own_types_is_described_without_trust(place: Path, tmp_path: Path) -> None:
    store = FeatureStore.open(place / "store")
    classifier = TransferClassifier.from_graph(store.graph, head=ExtraTreesClassifier(3), cv=0).fit(store, store.labels)
    classifier.save(tmp_path / "trees")
    facts = describe_path(tmp_path / "trees")
    assert facts["head"] is None
    assert facts["report"] is None


def test_store(place: Path, tmp_path: Path) -> None:
    store = FeatureStore.open(place / "store")
    facts = describe_path(place / "store")
    assert (facts["kind"], facts["rows"], facts["ok"]) == ("store", store.n_rows, store.n_rows)
    assert facts["labels"]["label"]["different"] == len(set(store.labels))
    assert sum(facts["labels"]["label"]["counts"].values()) == store.n_rows
    vectors = tmp_path / "vectors.npy"
    np.save(vectors, np.eye(3, dtype=np.float32))
    FeatureStore.import_features(tmp_path / "foreign", vectors)
    foreign = describe_path(tmp_path / "foreign")
    assert (foreign["backbone"], foreign["rows"]) == (None, 3)


def test_onnx_files(place: Path, tmp_path: Path) -> None:
    fused = describe_path(place / "model.onnx")
    assert fused["backbone"] == "topwork:tiny"
    assert fused["classes"] == sorted(set(FeatureStore.open(place / "store").labels))
    assert [port["name"] for port in fused["inputs"]] == ["image"]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], [1.0] * 6)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    onnx.save(helper.make_model(helper.make_graph([node], "g", [value], [out], [weight])), tmp_path / "other.onnx")
    other = describe_path(tmp_path / "other.onnx")
    assert (other["nodes"], other["parameters"]) == (1, 6)
    assert other["inputs"] == [{"name": "x", "type": "float", "axes": ["n", 3]}]
    assert "backbone" not in other


@pytest.mark.parametrize("name", ["absent", "folder", "notes.txt", "broken.onnx"])
def test_anything_else_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "broken.onnx").write_bytes(b"no protobuf" * 9)
    with pytest.raises(InputError, match=name):
        describe_path(tmp_path / name)
