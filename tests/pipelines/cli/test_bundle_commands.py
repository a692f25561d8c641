"""``topwork fit``, ``evaluate``, ``predict`` and ``export``: what they write, print and refuse."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import topwork
from topwork import FeatureStore
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.store.writer import open_writer

from .running import BROKEN_ID, topwork_command, topwork_json


@pytest.mark.parametrize("source", ["photos", "photos.tar", "store"])
def test_fit_from_any_data_saves_a_bundle(source: str, work: Path, tmp_path: Path) -> None:
    facts = topwork_json("fit", work / source, "--head", "centroid", "--out", tmp_path / "b")
    assert (facts["n"], facts["head"], facts["classes"]) == (24, "centroid", ["flower", "roof", "sky"])
    assert (facts["columns"], facts["failed"]) == (["last"], 0 if source == "photos.tar" else 1)
    assert topwork.load(tmp_path / "b").score(work / "photos.tar") > 0.9


def test_fit_keeps_the_features_in_a_store(work: Path, tmp_path: Path) -> None:
    printed = topwork_command("fit", work / "photos", "--store", tmp_path / "s", "--out", tmp_path / "b").stdout
    assert "linear on last: 24 items of 3 classes" in printed
    assert f"failed: {BROKEN_ID}" in printed
    store = FeatureStore.open(tmp_path / "s")
    assert len(store.ids) == 24
    entries = store.log.entries()
    again = ["fit", work / "photos", "--store", tmp_path / "s", "--head", "knn", "--out", tmp_path / "b"]
    topwork_command(*again, "--overwrite")
    assert FeatureStore.open(tmp_path / "s").log.entries() == entries
    assert topwork.load(tmp_path / "b").head == "knn"


@pytest.mark.parametrize("source", ["photos", "store"])
def test_evaluate_reports_accuracy_for_each_class(source: str, work: Path) -> None:
    scores = topwork_json("evaluate", work / "bundle", work / source)
    assert (scores["n"], scores["failed"], scores["unlabelled"]) == (24, 1, 0)
    assert {name: entry["n"] for name, entry in scores["per_class"].items()} == {"flower": 8, "roof": 8, "sky": 8}
    assert scores["accuracy"] == topwork.load(work / "bundle").score(FeatureStore.open(work / "store")) > 0.9
    printed = topwork_command("evaluate", work / "bundle", work / source).stdout.splitlines()
    assert printed[0] == f"accuracy {scores['accuracy']:.4f} on 24 items"
    assert [line.split()[0] for line in printed[-4:]] == ["label", "flower", "roof", "sky"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_predict_writes_a_table_with_the_broken_file(suffix: str, work: Path, tmp_path: Path) -> None:
    out = tmp_path / f"out{suffix}"
    counts = topwork_json("predict", work / "bundle", work / "photos", "--out", out)
    assert counts == {"items": 25, "ok": 24, "failed": 1, "abstained": 0}
    lines = out.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines] if suffix == ".jsonl" else list(csv.DictReader(lines))
    assert [row["id"] for row in rows if row["status"] == "failed"] == [BROKEN_ID]
    good = [row for row in rows if row["status"] == "ok"]
    assert sum(row["label"] == row["id"].partition("/")[0] for row in good) >= 22
    assert sum(float(good[0][f"p_{name}"]) for name in ("flower", "roof", "sky")) == pytest.approx(1, abs=1e-5)


def test_export_writes_a_file_that_runs(work: Path, tmp_path: Path) -> None:
    facts = topwork_json("export", work / "bundle", tmp_path / "model.onnx")
    assert facts.pop("bytes") == (tmp_path / "model.onnx").stat().st_size
    outputs = ["label", "probabilities"]
    assert facts == {"model": str(tmp_path / "model.onnx"), "input": "model-size", "outputs": outputs, "items": 0}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["label", "probabilities"]
    assert "wrote" in topwork_command("export", work / "bundle", tmp_path / "model.onnx").stdout


def test_export_of_any_size_is_compared_with_given_items(work: Path, photos: Path, tmp_path: Path) -> None:
    arguments = ["--input", "any-size", "--items", photos]
    facts = topwork_json("export", work / "bundle", tmp_path / "model.onnx", *arguments)
    assert (facts["input"], facts["items"]) == ("any-size", 5 + 24)
    refused = topwork_command("export", work / "bundle", tmp_path / "other.onnx", "--input", "tokens", code=2)
    assert "any-size" in refused.stderr
    assert not (tmp_path / "other.onnx").exists()


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_broken_files_alone_are_bad_input(command: str, work: Path, broken: Path, tmp_path: Path) -> None:
    arguments = ["fit", broken, "--out", tmp_path / "b"] if command == "fit" else ["evaluate", work / "bundle", broken]
    assert topwork_command(*arguments, code=2).stderr.startswith("topwork: ")


def test_one_class_is_bad_input(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "sky", tmp_path / "photos" / "sky")
    result = topwork_command("fit", tmp_path / "photos", "--out", tmp_path / "b", code=2)
    assert "class" in result.stderr


def test_pooling_missing_in_the_store_is_bad_input(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    topwork.TransferClassifier(graph, "layer2", store=tmp_path / "s").fit(photos)
    result = topwork_command(
        "fit", tmp_path / "s", "--layer", "layer2", "--pool", "max", "--out", tmp_path / "b", code=2
    )
    assert "max" in result.stderr


def test_backbone_beside_a_store_is_bad_input(work: Path, tmp_path: Path) -> None:
    result = topwork_command("fit", work / "store", "--backbone", "timm:resnet18", "--out", tmp_path / "b", code=2)
    assert "backbone" in result.stderr


def test_type_of_a_head_can_be_trusted(photos: Path, graph: ExportedGraph, tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(5, random_state=0)
    topwork.TransferClassifier(graph, "layer2", head=forest).fit(photos).save(tmp_path / "b")
    assert "--trust" in topwork_command("evaluate", tmp_path / "b", photos, code=2).stderr
    scores = topwork_json("evaluate", tmp_path / "b", photos, "--trust", "sklearn.tree._tree.Tree")
    assert scores["accuracy"] > 0.9


def test_labels_unknown_to_the_head_are_bad_input(work: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "sky", tmp_path / "photos" / "sea")
    assert "'sea'" in topwork_command("evaluate", work / "bundle", tmp_path / "photos", code=2).stderr


def test_text_goes_from_a_table_through_a_store_to_predictions(
    text_folder: Path, texts: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    table, backbone = tmp_path / "questions.tsv", f"hf:{text_folder}"
    rows = [*zip(*texts, strict=True), ("cat " * 60, "animals"), (texts[0][0], "animals")]
    lines = [f"{number:03d}\t{text}\t{label}\n" for number, (text, label) in enumerate(rows)]
    table.write_text("key\tquestion\ttopic\n" + "".join(lines))
    columns = ["--text-column", "question", "--label-column", "topic", "--id-column", "key"]
    options = ["--backbone", backbone, "--normalize", "--store", tmp_path / "s"]
    ledger = topwork_json("extract", table, *options, *columns)
    assert (ledger["items"], ledger["ok"], ledger["duplicate"], ledger["truncated"]) == (38, 37, 1, 1)
    assert "nothing to compute" in topwork_command("extract", table, *options, *columns).stdout
    store = FeatureStore.open(tmp_path / "s")
    assert store.ids == [f"{number:03d}" for number in range(38)]
    topwork_command("fit", tmp_path / "s", "--out", tmp_path / "b")
    scores = topwork_json("evaluate", tmp_path / "b", table, *columns)
    assert (scores["n"], scores["accuracy"]) == (38, topwork.load(tmp_path / "b").score(store))
    topwork_command("predict", tmp_path / "b", table, "--out", tmp_path / "out.jsonl", *columns)
    predicted = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in predicted] == store.ids
    topwork_command("export", tmp_path / "b", tmp_path / "model.onnx")
    assert (tmp_path / "model.tokenizer.json").is_file()
    topwork_command("fit", table, "--backbone", backbone, "--normalize", *columns, "--out", tmp_path / "direct")
    direct = topwork.load(tmp_path / "direct").predict([text for text, _ in rows]).tolist()
    assert direct == [row["label"] for row in predicted]


def list_contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", ["fit", "refit"])
def test_bundle_is_replaced_only_with_overwrite(command: str, work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "bundle", tmp_path / "b")
    before = list_contents(tmp_path / "b")
    arguments = {
        "fit": ["fit", work / "store", "--head", "knn", "--out", tmp_path / "b"],
        "refit": ["refit", work / "bundle", work / "store", "--out", tmp_path / "b"],
    }[command]
    for options in ([], ["--json"]):
        refused = topwork_command(*arguments, *options, code=2)
        assert str(tmp_path / "b") in refused.stderr
        assert "--overwrite" in refused.stderr
        assert list_contents(tmp_path / "b") == before
    topwork_command(*arguments, "--overwrite")
    assert list_contents(tmp_path / "b")["bundle.json"] != before["bundle.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_destination_is_checked_before_any_item_is_computed(work: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("keep me")
    (tmp_path / "file").write_text("keep me")
    stops = ["--on-error", "raise"]  # the photographs have a broken file, at which a command that works would stop
    for out in ("folder", "file", "file/b"):
        result = topwork_command("fit", work / "photos", "--out", tmp_path / out, *stops, code=2)
        assert str(tmp_path / out) in result.stderr
        assert ".tmp-" not in result.stderr
    (tmp_path / "p.csv").mkdir()
    for out in ("p.csv", "file/p.csv"):
        result = topwork_command("predict", work / "bundle", work / "photos", "--out", tmp_path / out, *stops, code=2)
        assert str(tmp_path / out) in result.stderr
        assert ".tmp-" not in result.stderr
    result = topwork_command("export", work / "bundle", tmp_path / "folder", code=2)
    assert str(tmp_path / "folder") in result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "notes.txt", "p.csv"]


@pytest.mark.parametrize(
    ("options", "choice", "n_columns"),
    [
        (["--layer", "layer2,last"], ["--layer", "last"], 1),
        (["--layer", "layer2,last"], ["--layer", "layer2,last"], 2),
        (["--layer", "layer2", "--pool", "avg,max"], ["--pool", "max"], 1),
    ],
)
def test_columns_of_a_store_are_concatenated_only_by_name(
    options: list[str], choice: list[str], n_columns: int, photos: Path, tmp_path: Path
) -> None:
    topwork_command("extract", photos, "--store", tmp_path / "s", *options)
    fit = ["fit", tmp_path / "s", "--head", "centroid", "--out", tmp_path / "b"]
    refused = topwork_command(*fit, code=2)
    assert all(name in refused.stderr for name in (*options[-1].split(","), options[-2]))
    assert len(topwork_json(*fit, *choice)["columns"]) == n_columns


def test_pending_items_of_a_store_are_told(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "store", tmp_path / "s")
    store = FeatureStore.open(tmp_path / "s")
    with open_writer(store) as writer:
        ids = store.ids[:3]
        writer.mark_pending(list(writer.index.find(ids).values()), ["parts/p000001/c0001.npy"])
    fit = ["fit", tmp_path / "s", "--head", "centroid", "--out", tmp_path / "b"]
    assert "3 items of the store are pending" in topwork_command(*fit).stdout
    assert topwork_json(*fit, "--overwrite")["pending"] == 3
    with pytest.warns(UserWarning, match="3 items of .* are pending"):
        topwork.TransferClassifier.from_store(store, head="centroid", cv=0).fit(store)


@pytest.mark.parametrize("name", ["photo.png", "PHOTO.PNG", "a photo.png"])
def test_one_photograph_is_predicted_and_printed(name: str, work: Path, photos: Path, tmp_path: Path) -> None:
    photo = Path(shutil.copyfile(photos / "sky" / "0.png", tmp_path / name))
    expected = str(topwork.load(work / "bundle").predict([photo])[0])
    assert expected in topwork_command("predict", work / "bundle", photo).stdout
    (row,) = topwork_json("predict", work / "bundle", photo, "--top-k", "2")["predictions"]
    assert (row["label"], row["label_1"]) == (expected, expected)
    topwork_command("predict", work / "bundle", photo, "--out", tmp_path / "p.csv")
    assert expected in (tmp_path / "p.csv").read_text()


def test_store_is_predicted_as_its_source_is(work: Path, tmp_path: Path) -> None:
    for source in ("photos", "store"):
        assert topwork_json("predict", work / "bundle", work / source, "--out", tmp_path / f"{source}.csv")["ok"] == 24
    with open(tmp_path / "photos.csv") as one, open(tmp_path / "store.csv") as other:
        labels = {row["id"]: row["label"] for row in csv.DictReader(one)}
        assert {row["id"]: row["label"] for row in csv.DictReader(other)} == labels


def test_predictions_of_broken_files_alone_exit_with_1(work: Path, broken: Path, tmp_path: Path) -> None:
    result = topwork_command("predict", work / "bundle", broken, "--out", tmp_path / "p.csv", code=1)
    assert "2 failed" in result.stdout
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 3
    assert "2 of 2" in topwork_command("predict", work / "bundle", broken, code=1).stderr


def test_fit_goes_on_with_the_backbone_of_a_store(work: Path, tmp_path: Path) -> None:
    topwork_command("extract", work / "photos", "--layer", "layer2", "--pool", "max", "--store", tmp_path / "s")
    facts = topwork_json("fit", work / "photos", "--store", tmp_path / "s", "--out", tmp_path / "b")
    assert facts["columns"] == ["layer2"]
    assert topwork.load(tmp_path / "b").extractor_.columns == FeatureStore.open(tmp_path / "s").columns
    wrong = ["fit", work / "photos", "--store", tmp_path / "s", "--layer", "layer1", "--out", tmp_path / "c"]
    assert "has no layer layer1" in topwork_command(*wrong, code=2).stderr


def test_groups_and_weights_of_a_store_are_labels(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "store", tmp_path / "s")
    store = FeatureStore.open(tmp_path / "s")
    animals = [f"{label} {number % 2}" for number, label in enumerate(store.labels)]
    weights = np.linspace(1, 2, len(animals)).tolist()
    store.set_labels(pa.table({"id": store.ids, "animal": animals, "weight": weights}))
    named = ["--group-column", "animal", "--weight-column", "weight", "--out", tmp_path / "b"]
    facts = topwork_json("fit", tmp_path / "s", *named)
    classifier = topwork.TransferClassifier.from_store(store)
    classifier.fit(store, groups=animals, sample_weight=weights)
    assert facts["report"]["held_out"] == classifier.fit_report_.held_out
    without = topwork.TransferClassifier.from_store(store).fit(store)
    loaded = topwork.load(tmp_path / "b")
    np.testing.assert_array_equal(loaded.predict_proba(store), classifier.predict_proba(store))
    assert (loaded.predict_proba(store) != without.predict_proba(store)).any()
    unknown = ["fit", tmp_path / "s", "--group-column", "herd", "--out", tmp_path / "c"]
    assert "no labels 'herd'" in topwork_command(*unknown, code=2).stderr


def test_splits_of_a_store_are_predicted_apart(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "store", tmp_path / "s")
    store = FeatureStore.open(tmp_path / "s")
    splits = ["test" if number < 5 else "train" for number in range(len(store.ids))]
    store.set_labels(pa.table({"id": [*store.ids, BROKEN_ID], "split": [*splits, "test"]}))
    predict = ["predict", work / "bundle", tmp_path / "s", "--split", "test", "--out", tmp_path / "out.csv"]
    assert topwork_json(*predict)["items"] == 6
    with open(tmp_path / "out.csv", newline="") as stream:
        assert [row["id"] for row in csv.DictReader(stream)] == [*store.ids[:5], BROKEN_ID]
    assert "no item has the split 'val'" in topwork_command(*predict[:4], "val", code=2).stderr


def test_fit_chooses_the_layer(work: Path, tmp_path: Path) -> None:
    found = topwork_json("fit", work / "photos.tar", "--layer", "auto", "--head", "centroid", "--out", tmp_path / "b")
    search = found["search"]
    assert search["layer"] == ",".join(found["columns"])
    assert search["n"] == 24
    assert search["candidates"]["last"] > 0.9
