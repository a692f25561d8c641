"""The commands: what they write, print and exit with."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import onnxruntime
import pytest
import topwork
from topwork import FeatureStore
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.heads.registry import HEADS

from .running import topwork_command, topwork_json

LEDGER = {"items", "ok", "failed", "duplicate", "items_per_second", "fingerprint"}
BROKEN = "roof/1a.png"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Return a folder with ``photos/`` (one file is broken), ``photos.tar``, ``store/`` and ``bundle/``."""
    folder = tmp_path_factory.mktemp("work")
    with tarfile.open(folder / "photos.tar", "w") as archive:
        archive.add(photos, "photos")
    shutil.copytree(photos, folder / "photos")
    (folder / "photos" / BROKEN).write_bytes(b"no image")
    topwork_command("extract", folder / "photos", "--store", folder / "store")
    topwork_command("fit", folder / "store", "--head", "lda", "--out", folder / "bundle")
    return folder


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Return a folder of broken files alone."""
    for label in ("a", "b"):
        (tmp_path / "broken" / label).mkdir(parents=True)
        (tmp_path / "broken" / label / "0.png").write_bytes(b"no image")
    return tmp_path / "broken"


def test_layers_lists_every_cut() -> None:
    found = topwork_json("layers", "topwork:tiny")["layers"]
    expected = [layer.name for layer in topwork.layers(topwork.load_backbone("topwork:tiny"))]
    assert [layer["name"] for layer in found] == expected
    assert found[-1] | {"shape": [80], "kind": "vector"} == found[-1]
    assert {layer["name"]: layer["poolings"] for layer in found}["layer2"][:2] == ["avg", "max"]
    lines = topwork_command("layers", "topwork:tiny").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["layer", *expected]


@pytest.mark.parametrize("flags", [("--items", "photos"), ("--pool", "max"), ("--normalize",)])
def test_layers_refuses_flags_that_only_a_check_reads(flags: tuple[str, ...]) -> None:
    assert "--check" in topwork_command("layers", "topwork:tiny", *flags, code=2).stderr


def test_extract_from_a_folder_and_again(work: Path, tmp_path: Path) -> None:
    first = topwork_json("extract", work / "photos", "--store", tmp_path / "s")
    assert first.keys() >= LEDGER
    assert (first["items"], first["ok"], first["failed"], first["duplicate"], first["computed"]) == (25, 24, 1, 0, 25)
    again = topwork_json("extract", work / "photos", "--store", tmp_path / "s")
    assert (again["items"], again["ok"], again["failed"], again["computed"]) == (25, 24, 1, 0)
    printed = topwork_command("extract", work / "photos", "--store", tmp_path / "s").stdout
    assert "25 items: 24 ok, 1 failed, 0 duplicate" in printed
    assert f"failed: {BROKEN}: " in printed
    assert "nothing to compute" in printed


def test_extract_tells_machines_where_it_ran_and_what_it_took(work: Path, tmp_path: Path) -> None:
    found = topwork_json("extract", work / "photos", "--store", tmp_path / "s", "--provider", "cpu")
    assert (found["provider"], found["precision"]) == ("cpu", FeatureStore.open(tmp_path / "s").columns[0].precision)
    assert found["share_of_possible"] > 0
    assert found["peak_memory"] is None or found["peak_memory"] > 10_000_000
    assert found["stages"].keys() == {"read", "decode", "infer", "write"}


def test_plan_forecasts_and_writes_nothing(work: Path, tmp_path: Path) -> None:
    command = ["extract", work / "photos", "--store", tmp_path / "s", "--plan"]
    found = topwork_json(*command)
    assert (found["items"], found["pending"], found["sample"]["items"], found["sample"]["failed"]) == (25, 25, 25, 1)
    assert found["seconds"] > 0
    assert found["disk_bytes"] > 24 * 80 * 4
    assert found.keys() >= {"items_per_second", "peak_memory", "provider", "precision", "fingerprint"}
    printed = topwork_command(*command).stdout.splitlines()
    assert printed[0] == "25 items: 25 to compute, 0 in the store"
    assert printed[2].startswith(f"  failed: {BROKEN}: ")
    assert [line.split()[0] for line in printed[3:]][:2] == ["time", "disk"]
    assert list(tmp_path.iterdir()) == []


def test_plan_for_a_store_leaves_out_what_it_has(work: Path) -> None:
    before = FeatureStore.open(work / "store").log.entries()
    found = topwork_json("extract", work / "photos", "--store", work / "store", "--plan")
    assert (found["items"], found["pending"], found["seconds"]) == (25, 0, 0)
    found = topwork_json("extract", work / "photos.tar", "--store", work / "store", "--plan")
    assert (found["items"], found["pending"]) == (24, 24)
    assert FeatureStore.open(work / "store").log.entries() == before


def test_plan_of_broken_files_alone_counts_them(broken: Path, tmp_path: Path) -> None:
    found = topwork_json("extract", broken, "--store", tmp_path / "s", "--plan")
    assert (found["pending"], found["sample"]["ok"], found["sample"]["failed"]) == (2, 0, 2)
    assert not (tmp_path / "s").exists()


def test_extract_from_a_tar_yields_the_same_features(work: Path, tmp_path: Path) -> None:
    ledger = topwork_json("extract", work / "photos.tar", "--store", tmp_path / "s", "--batch-size", "5")
    assert (ledger["items"], ledger["ok"], ledger["failed"]) == (24, 24, 0)
    ours, theirs = FeatureStore.open(tmp_path / "s"), FeatureStore.open(work / "store")
    rows = [theirs.ids.index(name.removeprefix("photos/")) for name in ours.ids]
    assert abs(ours.matrix("last") - theirs.matrix("last")[rows]).max() < 1e-5
    assert ours.labels == [theirs.labels[row] for row in rows]


def test_store_info_counts_what_is_there(work: Path) -> None:
    info, store = topwork_json("store", "info", work / "store"), FeatureStore.open(work / "store")
    assert info.keys() >= LEDGER
    assert (info["items"], info["ok"], info["failed"], info["duplicate"]) == (25, 24, 1, 0)
    assert (info["fingerprint"], info["backbone"]) == (store.fingerprint, "topwork:tiny")
    assert [(column["name"], column["width"]) for column in info["columns"]] == [("last", 80)]
    printed = topwork_command("store", "info", work / "store").stdout.splitlines()
    assert "25 items (24 ok, 1 failed, 0 duplicate)" in printed[0]
    (column,) = info["columns"]
    assert printed[-2].split() == ["column", "pool", "precision", "features"]
    assert printed[-1].split() == ["last", column["pool"], column["precision"], "80"]


def test_store_verify_finds_a_damaged_file(work: Path, tmp_path: Path) -> None:
    assert topwork_json("store", "verify", work / "store") == {"damaged": []}
    assert "all files match their SHA-256" in topwork_command("store", "verify", work / "store").stdout
    copy = shutil.copytree(work / "store", tmp_path / "s")
    matrix = next(copy.glob("parts/*/c0001.npy"))
    content = bytearray(matrix.read_bytes())
    content[-1] ^= 1
    matrix.write_bytes(content)
    name = matrix.relative_to(copy).as_posix()
    assert topwork_json("store", "verify", copy, code=2) == {"damaged": [name]}
    assert name in topwork_command("store", "verify", copy, code=2).stderr


def test_store_failures_have_their_reasons(work: Path) -> None:
    (failure,) = topwork_json("store", "failures", work / "store")["failures"]
    assert failure["id"] == BROKEN
    assert failure["reason"]
    printed = topwork_command("store", "failures", work / "store").stdout
    assert printed.splitlines() == ["1 failed", f"  failed: {BROKEN}: {failure['reason']}"]


@pytest.mark.parametrize("source", ["photos", "photos.tar", "store"])
def test_fit_from_any_data_saves_a_bundle(source: str, work: Path, tmp_path: Path) -> None:
    facts = topwork_json("fit", work / source, "--head", "centroid", "--out", tmp_path / "b")
    assert (facts["n"], facts["head"], facts["classes"]) == (24, "centroid", ["flower", "roof", "sky"])
    assert (facts["columns"], facts["failed"]) == (["last"], 0 if source == "photos.tar" else 1)
    assert topwork.load(tmp_path / "b").score(work / "photos.tar") > 0.9


def test_fit_keeps_the_features_in_a_store(work: Path, tmp_path: Path) -> None:
    printed = topwork_command("fit", work / "photos", "--store", tmp_path / "s", "--out", tmp_path / "b").stdout
    assert "linear on last: 24 items of 3 classes" in printed
    assert f"failed: {BROKEN}" in printed
    store = FeatureStore.open(tmp_path / "s")
    assert len(store.ids) == 24
    entries = store.log.entries()
    topwork_command("fit", work / "photos", "--store", tmp_path / "s", "--head", "knn", "--out", tmp_path / "b")
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
    assert [row["id"] for row in rows if row["status"] == "failed"] == [BROKEN]
    good = [row for row in rows if row["status"] == "ok"]
    assert sum(row["label"] == row["id"].partition("/")[0] for row in good) >= 22
    assert sum(float(good[0][f"p_{name}"]) for name in ("flower", "roof", "sky")) == pytest.approx(1, abs=1e-5)


def test_export_writes_a_file_that_runs(work: Path, tmp_path: Path) -> None:
    facts = topwork_json("export", work / "bundle", tmp_path / "model.onnx")
    assert facts == {"model": str(tmp_path / "model.onnx"), "bytes": (tmp_path / "model.onnx").stat().st_size}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["label", "probabilities"]
    assert "wrote" in topwork_command("export", work / "bundle", tmp_path / "model.onnx").stdout


def test_heads_lists_every_name() -> None:
    assert [entry["name"] for entry in topwork_json("heads")["heads"]] == list(HEADS)
    lines = topwork_command("heads").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:-2]] == list(HEADS)
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("", 0, ""),
        ("--on-error raise", 1, "roof/1a.png failed"),
        ("--backbone nowhere:net", 2, "nowhere"),
        ("--provider cuda", 3, "provider 'cuda' is not available"),
    ],
)
def test_process_ends_with_the_code_and_speaks_on_the_right_stream(
    arguments: str, code: int, message: str, work: Path, tmp_path: Path
) -> None:
    if code == 3 and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the provider that the test wants to be missing")
    command = [sys.executable, "-m", "topwork", "extract", work / "photos", "--store", tmp_path / "s", "--json"]
    result = subprocess.run([*command, *arguments.split()], capture_output=True, text=True, check=False)
    assert result.returncode == code
    if code:
        assert result.stderr.startswith("topwork: ")
        assert message in result.stderr
        assert (result.stdout, "Traceback" in result.stderr) == ("", False)
    else:
        assert json.loads(result.stdout)["ok"] == 24
        assert result.stderr == ""


@pytest.mark.parametrize("command", ["extract", "fit", "evaluate", "predict"])
@pytest.mark.parametrize("policy", ["raise", "limit:1%"])
def test_policy_that_stops_exits_with_1(command: str, policy: str, work: Path, tmp_path: Path) -> None:
    arguments = {
        "extract": ["--store", tmp_path / "s"],
        "fit": ["--out", tmp_path / "b"],
        "predict": ["--out", tmp_path / "out.csv"],
    }.get(command, [])
    bundle = [work / "bundle"] if command in ("evaluate", "predict") else []
    result = topwork_command(command, *bundle, work / "photos", *arguments, "--on-error", policy, code=1)
    assert result.stderr.startswith(f"topwork: {BROKEN} failed: ")
    assert result.stdout == ""


def test_limit_that_is_not_reached_goes_on(work: Path, tmp_path: Path) -> None:
    ledger = topwork_json("extract", work / "photos", "--store", tmp_path / "s", "--on-error", "limit:5%")
    assert (ledger["ok"], ledger["failed"]) == (24, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("layers nowhere:net", "nowhere"),
        ("layers timm:no_such_network", "no_such_network"),
        ("extract {work}/photos --store {tmp}/s --backbone nowhere:net", "nowhere"),
        ("extract {work}/photos --store {tmp}/s --layer layer9", "layer9"),
        ("extract {work}/nothing --store {tmp}/s", "does not exist"),
        ("extract {work}/photos --store {work}/store --layer layer2", "layer2"),
        ("extract {work}/photos --store {work}/store --mean 0.1", "mean"),
        ("extract {work}/photos --store {work}/photos", "exists already"),
        ("extract {work}/photos --store {tmp}/s --weights {work}/none.pth", "none.pth does not exist"),
        ("extract {work}/photos --store {tmp}/s --on-error perhaps", "perhaps"),
        ("extract {work}/photos --store {tmp}/s --provider abacus", "abacus"),
        ("extract {work}/photos", "--store"),
        ("extract {work}/nothing --store {tmp}/s --plan", "does not exist"),
        ("extract {work}/photos --store {work}/photos --plan", "exists already"),
        ("extract {work}/photos --store {work}/photos.tar --plan", "exists already"),
        ("extract {work}/photos --store {work}/photos.tar/s --plan", "exists already"),
        ("extract {work}/photos --store {work}/store --layer layer2 --plan", "layer2"),
        ("extract {work}/photos --plan", "--store"),
        ("store info {work}/photos", "is not a feature store"),
        (
            "fit {work}/photos --out {tmp}/b --head nothing",
            "linear, logreg, ridge, lda, knn, centroid, svm, gp, hgb, mlp",
        ),
        ("fit {work}/photos/sky --out {tmp}/b", "8 of 8 items have no label"),
        ("fit {work}/store --out {tmp}/b --layer layer2", "layer2"),
        ("fit {work}/store --out {tmp}/b --store {tmp}/s", "--store"),
        ("fit {work}/store --out {tmp}/b --weights random", "--weights"),
        ("fit {work}/photos --out {work}/photos", "is no bundle"),
        ("evaluate {work}/photos {work}/photos", "is not a bundle"),
        ("evaluate {work}/bundle {work}/photos/sky", "no item has a label"),
        ("predict {work}/bundle {work}/photos --out {tmp}/out.txt", ".csv or .jsonl"),
        ("export {work}/nothing {tmp}/model.onnx", "is not a bundle"),
        ("perhaps", "perhaps"),
    ],
)
def test_bad_usage_exits_with_2_and_says_why_on_standard_error(
    arguments: str, message: str, work: Path, tmp_path: Path
) -> None:
    result = topwork_command(*arguments.format(work=work, tmp=tmp_path).split(), code=2)
    assert message in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_missing_provider_exits_with_3(work: Path, tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the provider that the test wants to be missing")
    for command in (
        ["extract", work / "photos", "--store", tmp_path / "s"],
        ["extract", work / "photos", "--store", tmp_path / "s", "--plan"],
        ["evaluate", work / "bundle", work / "photos"],
    ):
        result = topwork_command(*command, "--provider", "cuda", code=3)
        assert "provider 'cuda' is not available" in result.stderr
        assert "onnxruntime-gpu" in result.stderr


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_broken_files_alone_are_bad_input(command: str, work: Path, broken: Path, tmp_path: Path) -> None:
    arguments = ["fit", broken, "--out", tmp_path / "b"] if command == "fit" else ["evaluate", work / "bundle", broken]
    assert topwork_command(*arguments, code=2).stderr.startswith("topwork: ")


def test_one_class_is_bad_input(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "sky", tmp_path / "photos" / "sky")
    result = topwork_command("fit", tmp_path / "photos", "--out", tmp_path / "b", code=2)
    assert "class" in result.stderr


def test_pooling_that_a_store_does_not_have_is_bad_input(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    topwork.TransferClassifier(graph, "layer2", store=tmp_path / "s").fit(photos)
    result = topwork_command(
        "fit", tmp_path / "s", "--layer", "layer2", "--pool", "max", "--out", tmp_path / "b", code=2
    )
    assert "max" in result.stderr


def test_backbone_that_is_not_the_stores_is_bad_input(work: Path, tmp_path: Path) -> None:
    result = topwork_command("fit", work / "store", "--backbone", "timm:resnet18", "--out", tmp_path / "b", code=2)
    assert "backbone" in result.stderr


def test_type_of_a_head_can_be_trusted(photos: Path, graph: ExportedGraph, tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(5, random_state=0)
    topwork.TransferClassifier(graph, "layer2", head=forest).fit(photos).save(tmp_path / "b")
    assert "--trust" in topwork_command("evaluate", tmp_path / "b", photos, code=2).stderr
    scores = topwork_json("evaluate", tmp_path / "b", photos, "--trust", "sklearn.tree._tree.Tree")
    assert scores["accuracy"] > 0.9


def test_demo_keeps_nothing_where_something_is(tmp_path: Path) -> None:
    assert "exists already" in topwork_command("demo", "--keep", tmp_path, code=2).stderr


def test_place_that_cannot_be_written_is_bad_input(work: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for command in (
        ("predict", work / "bundle", work / "photos", "--out", tmp_path / "file" / "x.csv"),
        ("export", work / "bundle", tmp_path),
        ("extract", work / "photos", "--store", tmp_path / "file" / "store"),
    ):
        assert topwork_command(*command, code=2).stderr.startswith("topwork: ")


def test_labels_that_the_head_does_not_know_are_bad_input(work: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "sky", tmp_path / "photos" / "sea")
    assert (
        "none of the labels (sea)" in topwork_command("evaluate", work / "bundle", tmp_path / "photos", code=2).stderr
    )


def test_layers_of_texts_have_any_number_of_tokens(text_folder: Path) -> None:
    lines = topwork_command("layers", f"hf:{text_folder}").stdout.splitlines()
    assert lines[-1].split()[:3] == ["last", "nx32", "tokens"]
    found = topwork_json("layers", f"hf:{text_folder}")["layers"][-1]
    assert (found["shape"], found["poolings"]) == ([None, 32], ["mean", "max", "gem", "cls"])


def test_texts_go_from_a_table_through_a_store_to_predictions(
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


def test_longest_text_is_an_option(text_folder: Path, text_table: Path, tmp_path: Path) -> None:
    options = ["--backbone", f"hf:{text_folder}", "--store", tmp_path / "s"]
    ledger = topwork_json("extract", text_table, *options, "--max-length", "5")
    assert 0 < ledger["truncated"] < ledger["ok"]
    printed = topwork_command(
        "extract", text_table, *options[:2], "--store", tmp_path / "t", "--max-length", "5"
    ).stdout
    assert f"{ledger['truncated']} of them were longer than the model's maximum length and were truncated" in printed
    result = topwork_command("extract", text_table, *options, "--max-length", "400", code=2)
    assert "max_length=400: this backbone takes at most 24 tokens" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("extract {table} --store {tmp}/s", "'path'"),
        ("extract {table} --store {tmp}/s --backbone {bert} --text-column nothing", "no column 'nothing'"),
        ("extract {table} --store {tmp}/s --backbone {bert} --size 32", "size does not apply"),
        ("extract {photos} --store {tmp}/s --backbone {bert}", "holds no text items"),
        ("extract {photos} --store {tmp}/s --text-column text", "is no table"),
        ("extract {table} --store {tmp}/s --backbone {bert} --pool flatten", "applicable: mean, max, gem, cls"),
        ("extract {photos} --store {tmp}/s --max-length 3", "max_length does not apply"),
        ("fit {table} --out {tmp}/b --backbone {bert} --label-column nothing", "no column 'nothing'"),
        ("extract {photos} --store {tmp}/s --backbone hf:{tmp}/nothing", "nothing"),
    ],
)
def test_bad_usage_with_texts_exits_with_2(
    arguments: str, message: str, photos: Path, text_folder: Path, text_table: Path, tmp_path: Path
) -> None:
    given = arguments.format(photos=photos, bert=f"hf:{text_folder}", table=text_table, tmp=tmp_path).split()
    result = topwork_command(*given, code=2)
    assert message in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []
