"""The fused file predicts as the classifier does, on real photographs, for every head and kind of label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from skl2onnx.operator_converters.linear_classifier import convert_sklearn_linear_classifier
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.semi_supervised import LabelSpreading
from tokenizers import Tokenizer
from topwork import TransferClassifier
from topwork.errors import ExportError, ParityError
from topwork.extract.graphs import model_file
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.graph_metadata import METADATA_KEY, GraphMetadata
from topwork.pipelines.fused.fuse import FUSIBLE

KINDS = {"str": ["flower", "roof", "sky"], "negative int": [-5, 0, 7], "bool": [False, True, True]}
KINDS_OF_LABELS = ["str", "negative int", pytest.param("bool", marks=pytest.mark.coverage)]
"""Booleans are written by the code that writes integers."""
WITH_SLOW_ONES_MARKED = [pytest.param(name, marks=pytest.mark.coverage) if name == "hgb" else name for name in FUSIBLE]
Outputs = list[NDArray[Any]]


def run(path: Path, pixels: NDArray[np.uint8]) -> Outputs:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    assert (image.type, image.shape[1:]) == ("tensor(uint8)", [32, 32, 3])
    return list(session.run(None, {image.name: pixels}))


def assert_same(classifier: TransferClassifier, outputs: Outputs, paths: list[Path]) -> None:
    expected = classifier.predict(paths)
    assert len(set(expected.tolist())) == len(classifier.classes_)
    assert np.array_equal(outputs[0].astype(expected.dtype), expected)
    if hasattr(classifier, "predict_proba"):
        assert np.abs(outputs[1] - classifier.predict_proba(paths)).max() <= 1e-4
    else:
        assert len(outputs) == 1


@pytest.mark.parametrize("kind", KINDS_OF_LABELS)
@pytest.mark.parametrize("head", WITH_SLOW_ONES_MARKED)
def test_fused_file_equals_predict_on_photographs(
    head: str, kind: str, graph: ExportedGraph, paths: list[Path], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    labels = np.repeat(KINDS[kind], len(paths) // 3)
    classifier = TransferClassifier(graph, "layer2", head=head, cv=0).fit(paths[::2], labels[::2])
    classifier.to_onnx(tmp_path / "model.onnx")
    outputs = run(tmp_path / "model.onnx", pixels)
    assert_same(classifier, outputs, paths)
    assert outputs[0].dtype == (object if kind == "str" else np.int64)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("head", [name for name in FUSIBLE if name not in ("ridge", "svm", "hgb")])
def test_probabilities_of_an_unsure_head_are_kept(
    head: str, classes: int, graph: ExportedGraph, paths: list[Path], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    labels = np.random.default_rng(3).permutation(np.arange(len(paths)) % classes)
    classifier = TransferClassifier(graph, "layer1", head=head, cv=0).fit(paths, labels)
    assert np.median(classifier.predict_proba(paths).max(axis=1)) < 0.95
    classifier.to_onnx(tmp_path / "model.onnx")
    found, probabilities = run(tmp_path / "model.onnx", pixels)
    assert np.array_equal(found, classifier.predict(paths))
    assert np.abs(probabilities - classifier.predict_proba(paths)).max() <= 1e-4


@pytest.mark.parametrize(
    "head",
    [
        make_pipeline(PCA(5), LogisticRegression()),
        RandomForestClassifier(9, random_state=0),
        GaussianNB(var_smoothing=1e-2),
    ],
)
def test_other_estimators_are_fused_too(
    head: Any, graph: ExportedGraph, photos: Path, paths: list[Path], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    classifier = TransferClassifier(graph, "layer2", head=head, cv=0).fit(photos)
    classifier.to_onnx(tmp_path / "model.onnx")
    assert_same(classifier, run(tmp_path / "model.onnx", pixels), paths)


def test_several_layers_are_fused_in_their_order(
    graph: ExportedGraph, photos: Path, paths: list[Path], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    classifier = TransferClassifier(graph, ["layer3", "layer1"], cv=0).fit(photos)
    classifier.to_onnx(tmp_path / "model.onnx")
    assert_same(classifier, run(tmp_path / "model.onnx", pixels), paths)


@pytest.mark.parametrize("head", WITH_SLOW_ONES_MARKED)
def test_batch_size_is_dynamic(
    head: str, graph: ExportedGraph, photos: Path, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    TransferClassifier(graph, ["layer1", "layer2"], head=head, cv=0).fit(photos).to_onnx(tmp_path / "model.onnx")
    whole = run(tmp_path / "model.onnx", pixels)
    for batch in (1, 3, 7):
        for output, expected in zip(run(tmp_path / "model.onnx", pixels[:batch]), whole, strict=True):
            assert output.shape == (batch, *expected.shape[1:])
            assert np.array_equal(output, expected[:batch]) or np.allclose(output, expected[:batch], atol=1e-6)


def test_file_ends_at_the_last_layer_that_is_needed(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    sizes = {}
    for layer in ("layer1", "layer2", "layer3"):
        TransferClassifier(graph, layer, head="centroid", cv=0).fit(photos).to_onnx(tmp_path / layer)
        sizes[layer] = (tmp_path / layer).stat().st_size
    assert sizes["layer1"] < sizes["layer2"] / 2 < sizes["layer3"] / 3


def test_names_and_metadata_describe_the_file(
    graph: ExportedGraph, photos: Path, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    TransferClassifier(graph, ["layer2", "layer1"], cv=0).fit(photos).to_onnx(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    metadata = GraphMetadata.from_text({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])
    assert [output.name for output in model.graph.output] == ["label", "probabilities"]
    assert metadata.fingerprint == graph.metadata.fingerprint
    assert metadata.backbone == graph.metadata.backbone
    assert [column.name for column in metadata.columns] == ["layer2", "layer1"]


def test_other_files_in_the_folder_are_not_changed(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    mine = [tmp_path / "new" / name for name in ("model.json", "model.onnx.json", "model.onnx.part")]
    classifier = TransferClassifier(graph, "layer1", cv=0).fit(photos)
    classifier.to_onnx(tmp_path / "new" / "model.onnx")
    assert list(tmp_path.rglob("*.*")) == [tmp_path / "new" / "model.onnx"]
    for path in mine:
        path.write_text("precious")
    classifier.to_onnx(tmp_path / "new" / "model.onnx")
    classifier.to_onnx(tmp_path / "new" / "model")
    assert [path.exists() and path.read_text() for path in mine] == ["precious"] * 3


Texts = tuple[list[str], list[str]]


def run_on_text(path: Path, sentences: list[str], max_length: int) -> Outputs:
    """Run a fused file without topwork, with the tokenizer that was written with it."""
    tokenizer = Tokenizer.from_file(str(path.with_name(f"{path.stem}.tokenizer.json")))
    tokenizer.enable_truncation(max_length)
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(sentences)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"input_ids": [e.ids for e in encoded], "attention_mask": [e.attention_mask for e in encoded]}
    assert {port.name for port in session.get_inputs()} == set(feed)
    return list(session.run(None, {name: np.array(rows, np.int64) for name, rows in feed.items()}))


@pytest.mark.parametrize("head", WITH_SLOW_ONES_MARKED)
def test_fused_file_for_text_equals_predict(head: str, text_graph: ExportedGraph, texts: Texts, tmp_path: Path) -> None:
    sentences, labels = texts
    classifier = TransferClassifier(text_graph, head=head, layer=["last", "encoder.layer.0"], cv=0).fit(
        sentences, labels
    )
    classifier.to_onnx(tmp_path / "model.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.tokenizer.json"]
    assert (tmp_path / "model.tokenizer.json").read_bytes() == text_graph.input_spec.files()["tokenizer.json"]
    given = [*sentences, "cat " * 60, "."]
    outputs = run_on_text(tmp_path / "model.onnx", given, 24)
    assert outputs[0].tolist() == classifier.predict(given).tolist()
    if hasattr(classifier, "predict_proba"):
        assert np.abs(outputs[1] - classifier.predict_proba(given)).max() <= 1e-4


def test_tokenizer_of_another_file_is_not_changed(text_graph: ExportedGraph, texts: Texts, tmp_path: Path) -> None:
    (tmp_path / "other.tokenizer.json").write_text("precious")
    TransferClassifier(text_graph, "last", cv=0).fit(*texts).to_onnx(tmp_path / "model.v2.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.v2.onnx", "model.v2.tokenizer.json", "other.tokenizer.json"
    ]  # fmt: skip
    assert (tmp_path / "other.tokenizer.json").read_text() == "precious"


@pytest.mark.parametrize("head", [LabelSpreading(), NearestCentroid(metric="manhattan")])
def test_head_without_converter_is_an_error_and_no_file(
    head: Any, graph: ExportedGraph, photos: Path, tmp_path: Path
) -> None:
    classifier = TransferClassifier(graph, "layer2", head=head, cv=0).fit(photos)
    with pytest.raises(ExportError) as error:
        classifier.to_onnx(tmp_path / "model.onnx")
    assert type(head).__name__ in str(error.value)
    assert "logreg" in str(error.value)  # a head that can be written
    assert list(tmp_path.iterdir()) == []


class Doubting(LogisticRegression):
    """Its probabilities are not those that its converter writes."""

    def predict_proba(self, X: Any) -> Any:
        return 0.9 * super().predict_proba(X) + 0.1 / len(self.classes_)


class Contrary(LogisticRegression):
    """Its labels are not those that its converter writes."""

    def predict(self, X: Any) -> Any:
        return np.roll(self.classes_, 1)[np.searchsorted(self.classes_, super().predict(X))]


@pytest.mark.parametrize(("head", "output"), [(Doubting, "probabilities"), (Contrary, "labels")])
def test_file_that_differs_from_the_head_is_not_written(
    head: Any, output: str, graph: ExportedGraph, photos: Path, tmp_path: Path
) -> None:
    update_registered_converter(
        head,
        f"Test{head.__name__}",
        calculate_linear_classifier_output_shapes,
        convert_sklearn_linear_classifier,
        options={"zipmap": [False], "nocl": [False], "raw_scores": [False], "output_class_labels": [False]},
    )
    classifier = TransferClassifier(graph, "layer2", head=make_pipeline(head(max_iter=500)), cv=0).fit(photos)
    with pytest.raises(ParityError, match=output):
        classifier.to_onnx(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_large_backbone_is_refused(
    graph: ExportedGraph, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.repeat(KINDS["str"], len(paths) // 3)
    classifier = TransferClassifier(graph, "layer2", head="centroid", cv=0).fit(paths[::2], labels[::2])
    monkeypatch.setattr(model_file, "MAX_EMBEDDED_BYTES", 1000)
    with pytest.raises(ExportError, match="2 GiB"):
        classifier.to_onnx(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
