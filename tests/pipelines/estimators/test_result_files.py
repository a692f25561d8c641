"""Tables of predictions: one line for each input, in order, failed ones with their reason."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from topwork import Extractor, FeatureStore, Table, TransferClassifier, extract_features
from topwork.errors import InputError, StoppedError, TopworkError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.pipelines.estimators import prediction_rows
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
    with pytest.raises(InputError, match=r"out\.xlsx: expected a file that ends in \.csv or \.jsonl or \.parquet"):
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


@pytest.fixture(scope="module")
def store(graph: ExportedGraph, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Return a store of the photographs and a broken file."""
    folder = tmp_path_factory.mktemp("store")
    copy = shutil.copytree(photos, folder / "photos")
    (copy / BROKEN).write_bytes(b"no image")
    opened = FeatureStore.create(folder / "store", Extractor.from_graph(graph))
    extract_features(copy, opened, on_error="record")
    return opened


@pytest.fixture(scope="module")
def classifier(graph: ExportedGraph, photos: Path) -> TransferClassifier:
    """Return a classifier of two of the store's layers."""
    return TransferClassifier(graph, ["layer3", "layer1"], head="logreg", on_error="record", cv=0).fit(photos)


def test_rows_of_a_store_and_its_failed_items_are_predicted(
    store: FeatureStore, classifier: TransferClassifier, tmp_path: Path
) -> None:
    counts = write_predictions(classifier, store, tmp_path / "out.csv")
    rows = read(tmp_path / "out.csv")
    assert counts == {"items": 25, "ok": 24, "failed": 1, "abstained": 0}
    assert [row["id"] for row in rows] == [*store.ids, BROKEN]
    assert [row["label"] for row in rows[:-1]] == classifier.predict(store).tolist()
    assert (rows[-1]["status"], rows[-1]["reason"]) == ("failed", store.failures()[0][1])


def test_parquet_has_the_rows_of_json_lines(
    store: FeatureStore, classifier: TransferClassifier, tmp_path: Path
) -> None:
    for name in ("out.jsonl", "out.parquet"):
        write_predictions(classifier, store, tmp_path / name)
    expected = read(tmp_path / "out.jsonl")
    found = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [{**dict.fromkeys(found[0]), **row} for row in expected] == found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.parquet"]


@pytest.mark.parametrize("k", [1, 2, 7])
def test_likeliest_classes_are_listed_with_their_probabilities(
    k: int, store: FeatureStore, classifier: TransferClassifier, tmp_path: Path
) -> None:
    write_predictions(classifier, store, tmp_path / "out.jsonl", top_k=k)
    proba = classifier.predict_proba(store)
    order = np.argsort(-proba, axis=1)[:, :k]
    for row, of_row, best in zip(read(tmp_path / "out.jsonl"), proba, order, strict=False):
        assert [row[f"label_{rank}"] for rank in range(1, len(best) + 1)] == classifier.classes_[best].tolist()
        assert [row[f"p_{rank}"] for rank in range(1, len(best) + 1)] == pytest.approx(of_row[best], abs=1e-6)
    with pytest.raises(InputError, match="top_k=0"):
        write_predictions(classifier, store, tmp_path / "no.csv", top_k=0)


def test_columns_of_a_table_are_carried(text_graph: ExportedGraph, text_table: Path, tmp_path: Path) -> None:
    classifier = TransferClassifier(text_graph, "last", cv=0).fit(text_table)
    rows = [{"text": f"cat dog {number}", "label": "no", "number": number, "p_x": 0.5} for number in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for suffix in (".jsonl", ".csv", ".parquet"):
        write_predictions(classifier, str(tmp_path / "rows.jsonl"), tmp_path / f"out{suffix}")
    found = read(tmp_path / "out.jsonl")
    assert [row["text"] for row in found] == [row["text"] for row in rows]
    assert [str(row["number"]) for row in found] == ["0", "1", "2"]
    assert [row["source_label"] for row in found] == ["no"] * 3
    assert [row["text"] for row in read(tmp_path / "out.csv")] == [row["text"] for row in rows]
    assert parquet.read_table(tmp_path / "out.parquet")["text"].to_pylist() == [row["text"] for row in rows]


def predict_until_killed(
    classifier: TransferClassifier, source: str | FeatureStore, out: Path, key: str, batches: int
) -> None:
    """Predict, and end as a killed process does after some batches."""
    iterate = prediction_rows.PredictionRows.iterate

    def iterate_until_killed(self: Any, start: int = 0) -> Any:
        for number, batch in enumerate(iterate(self, start)):
            if number == batches:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    prediction_rows.PredictionRows.iterate = iterate_until_killed  # type: ignore[method-assign]
    write_predictions(classifier, source, out, resume_key=key)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_killed_run_is_resumed_with_the_same_result(
    suffix: str, store: FeatureStore, classifier: TransferClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_rows, "MIN_BATCH_ROWS", 4)
    monkeypatch.setattr(prediction_rows, "MAX_BATCH_ROWS", 4)
    write_predictions(classifier, store, tmp_path / f"whole{suffix}")
    out = tmp_path / f"out{suffix}"
    for key in ("other", "run", "run", "run"):
        arguments = (classifier, store, out, key, 1)
        process = get_context("fork").Process(target=predict_until_killed, args=arguments)
        process.start()
        process.join()
        assert not out.exists()
    account = json.loads((tmp_path / f".out{suffix}.unfinished.json").read_text())
    assert account["rows"] == 12  # that of another key was not used
    with (tmp_path / f".out{suffix}.unfinished").open("ab") as stream:
        stream.write(b"half a li")
    counts = write_predictions(classifier, store, out, resume_key="run")
    assert counts == {"items": 25, "ok": 24, "failed": 1, "abstained": 0}
    assert out.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out.name, f"whole{suffix}"])


def test_second_run_onto_one_file_is_refused(
    store: FeatureStore, classifier: TransferClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    iterate = prediction_rows.PredictionRows.iterate
    refused = []

    def iterate_with_another_run(self: Any, start: int = 0) -> Any:
        if not refused:
            refused.append(True)
            with pytest.raises(InputError, match=rf"out\.csv is being written.*{os.getpid()}.*--out"):
                write_predictions(classifier, store, out)
        yield from iterate(self, start)

    monkeypatch.setattr(prediction_rows.PredictionRows, "iterate", iterate_with_another_run)
    counts = write_predictions(classifier, store, out)
    assert refused
    assert len(read(out)) == counts["items"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    write_predictions(classifier, store, out)


def test_columns_of_tables_keep_their_values_under_other_names(
    classifier: TransferClassifier, paths: list[Path], tmp_path: Path
) -> None:
    for name in ("s1", "s2"):
        lines = [f"{path},A,B,{name}" for path in paths[:2]]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label,source_label,part", *lines]))
    write_predictions(classifier, str(tmp_path / "s{1,2}.csv"), tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["part"] for row in rows] == ["s1", "s1", "s2", "s2"]
    assert {(row["source_label"], row["source_source_label"]) for row in rows} == {("A", "B")}


def test_column_that_a_table_has_twice_is_carried_once(
    classifier: TransferClassifier, paths: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(f"path,note,note\n{paths[0]},first,second\n")
    write_predictions(classifier, str(tmp_path / "t.csv"), tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as stream:
        assert next(csv.DictReader(stream))["note"] == "first"


def test_rows_before_an_error_are_kept_for_the_next_run(
    classifier: TransferClassifier, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("topwork.pipelines.estimators.prediction_rows.MAX_BATCH_ROWS", 1)
    monkeypatch.setattr("topwork.pipelines.estimators.prediction_rows.MIN_BATCH_ROWS", 1)
    (tmp_path / "t.csv").write_text("path\n" + "".join(f"{path}\n" for path in paths[:6]) + "absent.png\n")
    classifier.set_params(on_error="raise")
    classifier.extractor_.set_params(on_error="raise")
    with pytest.raises(TopworkError):
        write_predictions(classifier, str(tmp_path / "t.csv"), tmp_path / "out.csv", resume_key="run")
    assert (tmp_path / ".out.csv.unfinished").is_file()
    classifier.extractor_.set_params(on_error="record")
    counts = write_predictions(classifier, str(tmp_path / "t.csv"), tmp_path / "out.csv", resume_key="run")
    assert (counts["items"], counts["failed"]) == (7, 1)
    assert not (tmp_path / ".out.csv.unfinished").exists()
