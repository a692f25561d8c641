"""Evaluation: accuracies equal a count by hand, and every item is accounted for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from topwork import Extractor, FeatureStore, Table, TransferClassifier, extract_features
from topwork.errors import InputError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.pipelines.estimators.evaluation import evaluate


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
    assert scores == {
        "accuracy": right.mean(),
        "abstained": 0,
        "accuracy_answered": right.mean(),
        "n": 24,
        "failed": 0,
        "unlabelled": 0,
        "per_class": {name: {"n": 8, "accuracy": right[names == name].mean()} for name in ("flower", "roof", "sky")},
    }
    assert scores["per_class"]["sky"]["accuracy"] == 0


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
    with pytest.raises(InputError, match="no item has a label; expected a folder whose sub-folders name the labels"):
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
