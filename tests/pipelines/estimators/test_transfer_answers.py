"""Predictions of ``TransferClassifier``: calibrated probabilities, abstention, several labels, labels of any type."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import topwork
from numpy.typing import NDArray
from topwork import TransferClassifier
from topwork.errors import BundleError, ExportError, InputError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.heads.registry import HEADS

from ..cli.running import topwork_command, topwork_json

SEVERAL = [name for name in HEADS if name != "centroid"]


@pytest.fixture(scope="module")
def unsure(graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> TransferClassifier:
    """Return a classifier that abstains from some of the photographs; it is not to be changed."""
    flipped = np.where(np.arange(len(names)) % 4 == 0, np.roll(names, 9), names)
    return TransferClassifier(graph, "layer2", head="logreg", abstain_below=0.7, cv=0).fit(paths, flipped)


def test_no_label_is_given_below_the_limit(unsure: TransferClassifier, paths: list[Path]) -> None:
    sure = unsure.predict_proba(paths).max(axis=1) >= 0.7
    answers = unsure.predict(paths)
    assert 0 < sure.sum() < len(paths)
    assert [answer is not None for answer in answers] == sure.tolist()
    assert set(answers[sure].tolist()) <= set(unsure.classes_.tolist())
    assert unsure.score(paths, unsure.classes_[unsure.predict_proba(paths).argmax(axis=1)]) == sure.mean()


def test_abstention_is_reported_and_kept_in_a_bundle(
    unsure: TransferClassifier, paths: list[Path], photos: Path, tmp_path: Path
) -> None:
    unsure.save(tmp_path / "bundle")
    loaded = topwork.load(tmp_path / "bundle")
    assert loaded.predict(paths).tolist() == unsure.predict(paths).tolist()
    scores = topwork_json("evaluate", tmp_path / "bundle", photos)
    assert scores["abstained"] == sum(answer is None for answer in unsure.predict(paths))
    assert scores["accuracy_answered"] > scores["accuracy"]
    assert "which count as wrong" in topwork_command("evaluate", tmp_path / "bundle", photos).stdout
    counts = topwork_json("predict", tmp_path / "bundle", photos, "--out", tmp_path / "answers.csv")
    assert (counts["abstained"], counts["ok"]) == (scores["abstained"], 24 - scores["abstained"])
    assert (tmp_path / "answers.csv").read_text().count(",,abstained,") == scores["abstained"]


def test_fused_file_says_from_where_on_to_abstain(unsure: TransferClassifier, tmp_path: Path) -> None:
    unsure.to_onnx(tmp_path / "model.onnx")
    entries = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert entries["topwork.abstain_below"] == "0.7"


def test_abstaining_needs_probabilities(graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> None:
    with pytest.raises(InputError, match="no probabilities"):
        TransferClassifier(graph, "layer2", head="svm", abstain_below=0.5).fit(paths, names)
    able = TransferClassifier(graph, "layer2", head="svm", abstain_below=0.5, calibrate=True).fit(paths, names)
    assert able.predict_proba(paths).shape == (24, 3)


@pytest.mark.parametrize("head", ["linear", "logreg", "mlp", "knn"])
@pytest.mark.parametrize("kind", [["flower", "roof", "sky"], [-5, 3, 3], [False, True, True]], ids=str)
def test_calibrated_head_is_saved_and_fused(
    head: str, kind: list[Any], graph: ExportedGraph, paths: list[Path], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    labels = np.repeat(np.array(kind), 8)
    classifier = TransferClassifier(graph, "layer2", head=head, calibrate=True, cv=0).fit(paths, labels)
    assert classifier.predict(paths).dtype == labels.dtype
    classifier.save(tmp_path / "bundle")
    np.testing.assert_array_equal(
        topwork.load(tmp_path / "bundle").predict_proba(paths), classifier.predict_proba(paths)
    )
    classifier.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    label, probabilities = session.run(None, {session.get_inputs()[0].name: pixels})
    np.testing.assert_allclose(probabilities, classifier.predict_proba(paths), atol=1e-4)
    assert np.array_equal(label.astype(labels.dtype), classifier.predict(paths))


def test_calibrated_head_with_scores_alone_cannot_be_fused(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    classifier = TransferClassifier(graph, "layer2", head="ridge", calibrate=True, cv=0).fit(paths, names)
    with pytest.raises(ExportError, match="no probabilities"):
        classifier.to_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("head", SEVERAL)
def test_several_labels_for_each_item(
    head: str, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    Y = np.column_stack([names == "sky", names != "roof", names == "flower"]).astype(np.int8)
    classifier = TransferClassifier(graph, "layer2", head=head, cv=0).fit(paths, Y)
    found = classifier.predict(paths)
    assert (found.shape, found.dtype) == (Y.shape, Y.dtype)
    assert classifier.score(paths, Y) > 0.9
    assert classifier.predict([]).shape == (0, 3)
    if hasattr(classifier, "predict_proba"):
        assert ((classifier.predict_proba(paths) > 0.5) == found).mean() > 0.95
    classifier.save(tmp_path / "bundle")
    np.testing.assert_array_equal(topwork.load(tmp_path / "bundle").predict(paths), found)


def test_several_labels_have_a_report_of_whole_rows(graph: ExportedGraph, paths: list[Path]) -> None:
    Y = np.random.default_rng(0).integers(0, 2, (24, 4))
    report = TransferClassifier(graph, "layer2", head="ridge").fit(paths, Y).fit_report_
    assert report is not None
    assert report.held_out < report.training
    with pytest.raises(InputError, match="several"):
        TransferClassifier(graph, "layer2", calibrate=True).fit(paths, Y)
    with pytest.raises(InputError, match="expected 0 and 1"):
        TransferClassifier(graph, "layer2").fit(paths, Y + 1)


@pytest.mark.parametrize(
    "kinds",
    [(1, "one", True), (None.__class__, "text", 2.5), (("a", 1), ("b", 2), "c"), (datetime.date(2020, 1, 1), 1, "x")],
    ids=str,
)
def test_labels_of_several_types_come_back(kinds: Any, graph: ExportedGraph, paths: list[Path], tmp_path: Path) -> None:
    labels = [kinds[k // 8] for k in range(24)]
    classifier = TransferClassifier(graph, "layer2", head="knn", cv=0).fit(paths, labels)
    found = classifier.predict(paths).tolist()
    assert found == labels
    assert [type(each) for each in found] == [type(each) for each in labels]
    assert classifier.score(paths, classifier.predict(paths)) == 1
    assert len(classifier.classes_) == 3
    assert classifier.predict([]).dtype == object
    with pytest.raises(ExportError, match="several types"):
        classifier.to_onnx(tmp_path / "model.onnx")
    if kinds == (1, "one", True):
        classifier.save(tmp_path / "bundle")
        loaded = topwork.load(tmp_path / "bundle").predict(paths).tolist()
        assert [(type(each), each) for each in loaded] == [(type(each), each) for each in labels]
    else:
        with pytest.raises(BundleError, match=r"\b(type|tuple|date)\b"):
            classifier.save(tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("head", ["linear", "logreg"])
def test_fit_reports_training_and_held_out_rows(
    head: str, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    classifier = TransferClassifier(graph, ["layer1", "layer2"], head=head).fit(
        paths, np.random.default_rng(0).permutation(names)
    )
    report = classifier.fit_report_
    assert report is not None
    assert report.training > report.held_out + 0.1
    assert "the gap of" in str(report)
    classifier.save(tmp_path / "bundle")
    assert topwork.load(tmp_path / "bundle").fit_report_ == report
    assert classifier.set_params(cv=0).fit(paths, names).fit_report_ is None


def test_groups_reach_the_head_and_the_report(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], monkeypatch: pytest.MonkeyPatch
) -> None:
    from topwork.heads.linear.linear_probe import LinearProbeCV

    seen: list[Any] = []
    own = LinearProbeCV.fit

    def fit(self: Any, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Any:
        seen.append(groups)
        return own(self, X, y, sample_weight, groups)

    monkeypatch.setattr(LinearProbeCV, "fit", fit)
    TransferClassifier(graph, "layer2").fit(paths, names, groups=np.repeat(list("abcdefgh"), 3))
    assert seen[-1].tolist() == np.repeat(range(8), 3).tolist()
    TransferClassifier(graph, "layer2", views=1).fit(paths, names)
    assert seen[-1].tolist() == np.repeat(range(24), 2).tolist()
    TransferClassifier(graph, "layer2").fit(paths, names)
    assert seen[-1] is None
    with pytest.raises(InputError, match=r"24 items but groups of shape \(2,\)"):
        TransferClassifier(graph, "layer2").fit(paths, names, groups=["a", "b"])


@pytest.mark.parametrize("head", ["linear", "logreg", "centroid"])
@pytest.mark.parametrize(
    "labels",
    [
        [True, 5, 6],
        [np.int64(3), "y", 2.5],
        np.array([True, False, True], object),
        np.array([7, -7, 0], object),
    ],
    ids=["booleans and numbers", "numpy and text", "booleans as objects", "numbers as objects"],
)
def test_labels_come_back_as_they_were(
    head: str, labels: Any, graph: ExportedGraph, paths: list[Path], tmp_path: Path
) -> None:
    given = [labels[number % 3] for number in range(len(paths))]
    given = given if isinstance(labels, list) else np.array(given, object)
    classifier = TransferClassifier(graph, "layer2", head=head, cv=0).fit(paths, given)
    classifier.save(tmp_path / "bundle")
    for each in (classifier, topwork.load(tmp_path / "bundle")):
        found = {(type(label), label) for label in each.predict(paths).tolist()}
        plain = [label.item() if isinstance(label, np.generic) else label for label in labels]
        assert found <= {(type(label), label) for label in plain}


def test_label_that_never_applies_is_not_probable(graph: ExportedGraph, paths: list[Path]) -> None:
    several = np.zeros((len(paths), 3), int)
    several[::2, 0] = 1
    several[:, 2] = 1
    classifier = TransferClassifier(graph, "layer2", head="knn", cv=0).fit(paths, several)
    chances = classifier.predict_proba(paths)
    assert (chances[:, 1] == 0).all()
    assert (chances[:, 2] == 1).all()
    assert ((chances > 0.5) == classifier.predict(paths)).all()


def test_own_head_is_calibrated_once_when_it_is_loaded(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    from sklearn.linear_model import LogisticRegression

    head = LogisticRegression(C=0.3)
    TransferClassifier(graph, "layer2", head=head, calibrate=True, cv=0).fit(paths, names).save(tmp_path / "bundle")
    loaded = topwork.load(tmp_path / "bundle")
    assert loaded.get_params()["head"].C == 0.3
    again = loaded.fit(paths, names)
    assert type(again.head_.estimator) is LogisticRegression
    again.to_onnx(tmp_path / "model.onnx")


def test_few_rows_have_fewer_neighbours(graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> None:
    some = [0, 8, 16]
    classifier = TransferClassifier(graph, "layer2", head="knn", cv=0).fit([paths[k] for k in some], names[some])
    assert len(classifier.predict(paths)) == len(paths)
