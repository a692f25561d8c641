"""Tables of predictions: one line for each input, in order, failed ones with their reason."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topwork import Table, TransferClassifier
from topwork.errors import InputError, StoppedError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.pipelines.estimators.result_files import write_predictions

pytestmark = pytest.mark.filterwarnings("ignore:.*items failed and have no row")
BROKEN = "roof/1a.png"


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Path:
    """Return a copy of the photographs with one broken file in the middle."""
    copy = shutil.copytree(photos, tmp_path / "photos")
    (copy / BROKEN).write_bytes(b"no image")
    return copy


def read(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    return (
        [json.loads(line) for line in text.splitlines()]
        if path.suffix == ".jsonl"
        else list(csv.DictReader(text.splitlines()))
    )


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("head", ["logreg", "ridge"])
def test_table_holds_every_input_in_order(
    head: str, suffix: str, graph: ExportedGraph, photos: Path, folder: Path, paths: list[Path], tmp_path: Path
) -> None:
    classifier = TransferClassifier(graph, "layer2", head=head, on_error="record").fit(photos)
    counts = write_predictions(classifier, str(folder), tmp_path / f"out{suffix}")
    rows = read(tmp_path / f"out{suffix}")
    good = [row for row in rows if row["id"] != BROKEN]
    (failed,) = (row for row in rows if row["id"] == BROKEN)
    assert counts == {"items": 25, "ok": 24, "failed": 1, "abstained": 0}
    assert [row["id"] for row in rows] == sorted([BROKEN, *(path.relative_to(photos).as_posix() for path in paths)])
    assert [row["label"] for row in good] == classifier.predict(paths).tolist()
    assert {row["status"] for row in good} == {"ok"}
    assert not any(row["reason"] for row in good)
    assert (failed["status"], failed["label"] or None) == ("failed", None)
    assert failed["reason"]
    names = [f"p_{name}" for name in classifier.classes_] if head == "logreg" else []
    assert list(good[0]) == ["id", "label", "status", "reason", *names]
    if names:
        found = [[float(row[name]) for name in names] for row in good]
        assert np.abs(found - classifier.predict_proba(paths)).max() <= 1e-6


def test_labels_of_any_kind_are_written_as_they_are(graph: ExportedGraph, paths: list[Path], tmp_path: Path) -> None:
    for values in ([-5, 0, 7], [False, True, True], ["a,b", 'q"uote', "größe\nneu"]):
        labels = np.repeat(values, len(paths) // 3)
        classifier = TransferClassifier(graph, "layer2", head="knn").fit(paths, labels)
        write_predictions(classifier, str(paths[0].parents[1]), tmp_path / "out.jsonl")
        assert [row["label"] for row in read(tmp_path / "out.jsonl")] == classifier.predict(paths).tolist()
    write_predictions(classifier, str(paths[0].parents[1]), tmp_path / "out.csv")
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == classifier.predict(paths).tolist()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_source_of_broken_files_alone_has_a_table_too(
    suffix: str, graph: ExportedGraph, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.png").write_bytes(b"no image")
    classifier = TransferClassifier(graph, "layer2", on_error="record").fit(photos)
    counts = write_predictions(classifier, str(tmp_path / "broken"), tmp_path / f"out{suffix}")
    assert counts == {"items": 1, "ok": 0, "failed": 1, "abstained": 0}
    assert [(row["id"], row["status"]) for row in read(tmp_path / f"out{suffix}")] == [("0.png", "failed")]


def test_policy_that_stops_writes_nothing(graph: ExportedGraph, photos: Path, folder: Path, tmp_path: Path) -> None:
    classifier = TransferClassifier(graph, "layer2").fit(photos)
    with pytest.raises(StoppedError, match=BROKEN):
        write_predictions(classifier, str(folder), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_other_kinds_of_file_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out\.xlsx: expected a file that ends in \.csv or \.jsonl"):
        write_predictions(TransferClassifier(), "nowhere", tmp_path / "out.xlsx")


def test_folders_on_the_way_are_made(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    classifier = TransferClassifier(graph, "layer2").fit(photos)
    write_predictions(classifier, str(photos), tmp_path / "a" / "b" / "out.csv")
    assert len(read(tmp_path / "a" / "b" / "out.csv")) == 24


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows_of_a_table_of_text_are_predicted_under_their_ids(
    suffix: str, text_graph: ExportedGraph, text_table: Path, tmp_path: Path
) -> None:
    classifier = TransferClassifier(text_graph, "last", on_error="record").fit(text_table)
    rows = [{"key": "a", "question": "cat dog"}, {"key": "b", "question": None}, {"key": "a", "question": "cat dog"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = Table(tmp_path / "rows.jsonl", text="question", id="key")
    assert write_predictions(classifier, table, tmp_path / f"out{suffix}") == {
        "items": 3,
        "ok": 2,
        "failed": 1,
        "abstained": 0,
    }
    found = read(tmp_path / f"out{suffix}")
    assert [(row["id"], row["status"]) for row in found] == [("a", "ok"), ("b", "failed"), ("a#2", "ok")]
    assert found[1]["reason"] == "this row of the table is empty"
    assert found[0]["label"] == found[2]["label"] == classifier.predict(["cat dog"])[0]
