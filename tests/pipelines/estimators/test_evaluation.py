"""Evaluation: accuracies equal a count by hand, and every item is accounted for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics
from topwork import Extractor, FeatureStore, Table, TransferClassifier, extract_features
from topwork.errors import InputError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.pipelines.estimators.evaluation import evaluate, predict_labelled
from topwork.pipelines.estimators.measures import (
    Answers,
    list_errors,
    list_set_mistakes,
    measure_label_sets,
    measure_labels,
    measure_values,
)


@pytest.fixture(scope="module")
def wrong_about_the_sky(graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> TransferClassifier:
    """Return a classifier that has learned to call the sky a roof, and half of the flowers too."""
    labels = np.where(names == "sky", "roof", names)
    labels[:4] = "sky"
    return TransferClassifier(graph, "layer2", head="knn", on_error="record").fit(paths, labels)


def test_accuracies_equal_a_count_by_hand(
    wrong_about_the_sky: TransferClassifier, photos: Path, paths: list[Path], names: NDArray[np.str_]
) -> None:
    right = wrong_about_the_sky.predict(paths) == names
    scores = evaluate(wrong_about_the_sky, str(photos))
    assert 0 < right.sum() < len(right)
    assert (scores["accuracy"], scores["n"], scores["failed"], scores["unlabelled"]) == (right.mean(), 24, 0, 0)
    assert (scores["abstained"], scores["accuracy_answered"], scores["unknown"]) == (0, right.mean(), 0)
    per_class = scores["per_class"]
    assert {name: per_class[name]["n"] for name in per_class} == {"flower": 8, "roof": 8, "sky": 8}
    for name, entry in per_class.items():
        assert entry["accuracy"] == entry["recall"] == right[names == name].mean()
    assert per_class["sky"]["accuracy"] == 0


@pytest.fixture(scope="module")
def mistaken(graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> TransferClassifier:
    """Return a classifier that makes some mistakes, and has learned all classes."""
    labels = names.copy()
    labels[1:7] = "sky"
    return TransferClassifier(graph, "layer2", head="logreg", cv=0).fit(paths, labels)


def test_measures_are_those_of_scikit_learn(
    mistaken: TransferClassifier, photos: Path, paths: list[Path], names: NDArray[np.str_]
) -> None:
    scores = evaluate(mistaken, photos)
    predicted = mistaken.predict(paths)
    assert (predicted != names).any()
    report = metrics.classification_report(names, predicted, output_dict=True)
    for name in ("flower", "roof", "sky"):
        for measure, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert scores["per_class"][name][measure] == pytest.approx(report[name][key])
    for average in ("macro", "weighted"):
        for measure, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert scores[f"{measure}_{average}"] == pytest.approx(report[f"{average} avg"][key])
    assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(names, predicted))
    assert scores["log_loss"] == pytest.approx(metrics.log_loss(names, mistaken.predict_proba(paths)))
    assert scores["top5_accuracy"] == 1


def test_mistakes_and_confusions_are_of_the_same_items(
    mistaken: TransferClassifier, photos: Path, paths: list[Path], names: NDArray[np.str_]
) -> None:
    [evaluation] = predict_labelled(mistaken, photos)
    predicted = mistaken.predict(paths)
    mistakes = evaluation.list_mistakes()
    ids = [path.relative_to(photos).as_posix() for path in paths]
    wrong = {ids[row]: predicted[row] for row in np.flatnonzero(predicted != names)}
    assert {mistake["id"]: mistake["prediction"] for mistake in mistakes} == wrong
    highest = dict(zip(ids, mistaken.predict_proba(paths).max(axis=1), strict=True))
    for mistake in mistakes:
        assert mistake["truth"] == mistake["id"].split("/")[0]
        assert mistake["probability"] == pytest.approx(highest[mistake["id"]])
    classes = ["flower", "roof", "sky"]
    expected = metrics.confusion_matrix(names, predicted, labels=classes)
    rows = evaluation.list_confusions()
    assert [row["truth"] for row in rows] == classes
    np.testing.assert_array_equal([[row[name] for name in classes] for row in rows], expected)


def test_several_labels_have_the_measures_of_scikit_learn(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]
) -> None:
    truth = np.column_stack([names == "sky", names != "roof", np.arange(len(names)) % 3 == 0]).astype(int)
    classifier = TransferClassifier(graph, "layer2", head="logreg", cv=0).fit(paths, truth)
    probabilities = classifier.predict_proba(paths)
    predicted = classifier.predict(paths)
    predicted[0] = 1 - predicted[0]
    answers = Answers(list(map(str, paths)), truth, predicted, probabilities, ["sky", "outside", "third"])
    scores = measure_label_sets(answers)
    assert scores["mean_average_precision"] == pytest.approx(metrics.average_precision_score(truth, probabilities))
    for average in ("micro", "macro", "weighted", "samples"):
        f1 = metrics.f1_score(truth, predicted, average=average, zero_division=0)
        assert scores[f"f1_{average}"] == pytest.approx(f1)
    assert scores["accuracy"] == metrics.accuracy_score(truth, predicted)
    assert str(paths[0]) in [mistake["id"] for mistake in list_set_mistakes(answers)]


@pytest.mark.parametrize("n_values", [1, 2])
def test_values_have_the_measures_of_scikit_learn_and_scipy(n_values: int) -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(20, n_values)).squeeze()
    predicted = truth + generator.normal(size=truth.shape)
    answers = Answers([str(row) for row in range(20)], truth, predicted, None, [])
    scores = measure_values(answers)
    assert scores["r2"] == pytest.approx(metrics.r2_score(truth, predicted))
    assert scores["mean_absolute_error"] == pytest.approx(metrics.mean_absolute_error(truth, predicted))
    assert scores["root_mean_squared_error"] == pytest.approx(metrics.root_mean_squared_error(truth, predicted))
    columns = zip(truth.reshape(20, -1).T, predicted.reshape(20, -1).T, strict=True)
    correlations = [stats.spearmanr(own, other).statistic for own, other in columns]
    assert scores["rank_correlation"] == pytest.approx(np.mean(correlations))
    errors = [entry["error"] for entry in list_errors(answers)]
    assert errors == sorted(errors, reverse=True)
    assert measure_values(answers.take(np.array([3])))["r2"] is None


def test_top_five_counts_labels_that_were_not_learned_as_wrong() -> None:
    probabilities = np.array([[0.3, 0.2, 0.15, 0.14, 0.12, 0.09]] * 3)
    truth = np.array(["f", "e", "g"], object)
    answers = Answers(["0", "1", "2"], truth, np.array(["a"] * 3, object), probabilities, list("abcdef"))
    assert measure_labels(answers)["top5_accuracy"] == pytest.approx(1 / 3)


def test_labels_are_checked_before_features_are_computed(
    mistaken: TransferClassifier, photos: Path, tmp_path: Path
) -> None:
    mistaken.set_params(on_error="raise")
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="bird"):
        evaluate(mistaken, tmp_path)
    (tmp_path / "table.csv").write_text("path\nmissing.png\n")
    with pytest.raises(InputError, match="label"):
        evaluate(mistaken, tmp_path / "table.csv")


def test_store_and_folder_have_the_same_scores(
    wrong_about_the_sky: TransferClassifier, graph: ExportedGraph, photos: Path, tmp_path: Path
) -> None:
    store = FeatureStore.create(tmp_path / "store", Extractor.from_graph(graph))
    extract_features(photos, store)
    assert evaluate(wrong_about_the_sky, store) == evaluate(wrong_about_the_sky, photos)


@pytest.mark.filterwarnings("ignore:1 of 26 items failed")
def test_failed_and_unlabelled_items_are_counted_and_shift_no_label(
    wrong_about_the_sky: TransferClassifier, photos: Path, tmp_path: Path
) -> None:
    expected = evaluate(wrong_about_the_sky, photos)
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "flower" / "00.png").write_bytes(b"no image")
    shutil.copy(folder / "sky" / "0.png", folder / "aaa.png")
    assert evaluate(wrong_about_the_sky, folder) == {**expected, "failed": 1, "unlabelled": 1}


def test_numbers_as_labels_are_compared_with_the_names_of_folders(
    graph: ExportedGraph, photos: Path, paths: list[Path], tmp_path: Path
) -> None:
    labels = np.repeat([-1, 0, 10], len(paths) // 3)
    for path, label in zip(paths, labels, strict=True):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / str(label) / path.name)
    scores = evaluate(TransferClassifier(graph, "layer2").fit(paths, labels), tmp_path)
    assert scores["accuracy"] == 1
    assert list(scores["per_class"]) == ["-1", "0", "10"]


def test_data_without_labels_are_refused(wrong_about_the_sky: TransferClassifier, photos: Path) -> None:
    with pytest.raises(InputError, match="8 of 8 items have no label"):
        evaluate(wrong_about_the_sky, photos / "sky")


@pytest.mark.filterwarnings("ignore:1 of 1 items failed")
def test_data_of_broken_files_alone_are_refused(wrong_about_the_sky: TransferClassifier, tmp_path: Path) -> None:
    (tmp_path / "sky").mkdir()
    (tmp_path / "sky" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError):
        evaluate(wrong_about_the_sky, tmp_path)


def test_table_is_scored_by_its_labels(
    text_graph: ExportedGraph, text_table: Path, texts: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    sentences, labels = texts
    classifier = TransferClassifier(text_graph, "last").fit(text_table)
    right = classifier.predict(sentences) == np.array(labels)
    scores = evaluate(classifier, text_table)
    assert (scores["accuracy"], scores["n"]) == (right.mean(), len(labels))
    rows = [f"{text}\t{label if number % 2 else ''}\n" for number, (text, label) in enumerate(zip(*texts, strict=True))]
    (tmp_path / "half.tsv").write_text("question\ttopic\n" + "".join(rows))
    half = evaluate(classifier, Table(tmp_path / "half.tsv", text="question", label="topic"))
    assert (half["n"], half["unlabelled"], half["accuracy"]) == (18, 18, right[1::2].mean())
