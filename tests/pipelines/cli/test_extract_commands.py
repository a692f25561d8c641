"""``topwork extract``: what it computes, writes and prints, and what it forecasts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from topwork import FeatureStore

from .running import BROKEN_ID, LEDGER_FIELDS, topwork_command, topwork_json


def test_extract_from_a_folder_and_again(work: Path, tmp_path: Path) -> None:
    first = topwork_json("extract", work / "photos", "--store", tmp_path / "s")
    assert first.keys() >= LEDGER_FIELDS
    assert (first["items"], first["ok"], first["failed"], first["duplicate"], first["computed"]) == (25, 24, 1, 0, 25)
    again = topwork_json("extract", work / "photos", "--store", tmp_path / "s")
    assert (again["items"], again["ok"], again["failed"], again["computed"]) == (25, 24, 1, 0)
    printed = topwork_command("extract", work / "photos", "--store", tmp_path / "s").stdout
    assert "25 items: 24 ok, 1 failed, 0 duplicate" in printed
    assert f"failed: {BROKEN_ID}: " in printed
    assert "nothing to compute" in printed


def test_extract_reports_provider_precision_and_memory(work: Path, tmp_path: Path) -> None:
    found = topwork_json("extract", work / "photos", "--store", tmp_path / "s", "--provider", "cpu")
    assert (found["provider"], found["precision"]) == ("cpu", FeatureStore.open(tmp_path / "s").columns[0].precision)
    assert found["share_of_possible"] > 0
    assert found["peak_memory"] is None or found["peak_memory"] > 10_000_000
    assert found["stages"].keys() == {"read", "decode", "infer", "write"}


def test_extract_from_a_tar_yields_the_same_features(work: Path, tmp_path: Path) -> None:
    ledger = topwork_json("extract", work / "photos.tar", "--store", tmp_path / "s", "--batch-size", "5")
    assert (ledger["items"], ledger["ok"], ledger["failed"]) == (24, 24, 0)
    ours, theirs = FeatureStore.open(tmp_path / "s"), FeatureStore.open(work / "store")
    rows = [theirs.ids.index(name.removeprefix("photos/")) for name in ours.ids]
    assert abs(ours.matrix("last") - theirs.matrix("last")[rows]).max() < 1e-5
    assert ours.labels == [theirs.labels[row] for row in rows]


def test_extract_continues_below_the_limit_of_failures(work: Path, tmp_path: Path) -> None:
    ledger = topwork_json("extract", work / "photos", "--store", tmp_path / "s", "--on-error", "limit:5%")
    assert (ledger["ok"], ledger["failed"]) == (24, 1)


def test_maximum_text_length_is_an_option(text_folder: Path, text_table: Path, tmp_path: Path) -> None:
    options = ["--backbone", f"hf:{text_folder}", "--store", tmp_path / "s"]
    ledger = topwork_json("extract", text_table, *options, "--max-length", "5")
    assert 0 < ledger["truncated"] < ledger["ok"]
    printed = topwork_command(
        "extract", text_table, *options[:2], "--store", tmp_path / "t", "--max-length", "5"
    ).stdout
    assert f"{ledger['truncated']} of them were longer than the model's maximum length and were truncated" in printed
    result = topwork_command("extract", text_table, *options, "--max-length", "400", code=2)
    assert all(value in result.stderr for value in ("max_length=400", "24 tokens"))


def test_plan_forecasts_and_writes_nothing(work: Path, tmp_path: Path) -> None:
    command = ["extract", work / "photos", "--store", tmp_path / "s", "--plan"]
    found = topwork_json(*command)
    assert (found["items"], found["pending"], found["sample"]["items"], found["sample"]["failed"]) == (25, 25, 25, 1)
    assert found["seconds"] > 0
    assert found["disk_bytes"] > 24 * 80 * 4
    assert found.keys() >= {"items_per_second", "peak_memory", "provider", "precision", "fingerprint"}
    printed = topwork_command(*command).stdout.splitlines()
    assert printed[0] == "25 items: 25 to compute, 0 in the store"
    assert printed[2].startswith(f"  failed: {BROKEN_ID}: ")
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


@pytest.mark.parametrize(
    "options",
    [
        ["--layer", "layer2", "--pool", "avg,max"],
        ["--layer", "layer2,last", "--normalize"],
        ["--weights", "random"],
        ["--size", "40"],
        ["--dtype", "float16"],
    ],
)
def test_existing_store_goes_on_as_it_was_begun(options: list[str], photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "s"
    topwork_command("extract", photos / "sky", "--store", store, *options)
    topwork_command("extract", photos / "roof", "--store", store)
    at_once = tmp_path / "t"
    topwork_command("extract", photos / "roof", "--store", at_once, *options)
    ours = FeatureStore.open(store)
    theirs = FeatureStore.open(at_once)
    assert len(ours.ids) == 8  # the same names: what was computed on the second day replaced the first
    for column in theirs.columns:
        assert np.allclose(ours.take(theirs.ids, column.name), theirs.matrix(column.name), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "both"),
    [
        (["--backbone", "{bert}"], ["architecture", "topwork:tiny"]),
        (["--weights", "random"], ["weights"]),
        (["--layer", "layer9"], ["layer9", "last"]),
        (["--normalize"], ["--normalize"]),
        (["--size", "40"], ["40", "32"]),
    ],
)
def test_another_backbone_or_cut_than_that_of_the_store_is_refused(
    options: list[str], both: list[str], work: Path, text_folder: Path
) -> None:
    filled = [option.format(bert=f"hf:{text_folder}") for option in options]
    result = topwork_command("extract", work / "photos", "--store", work / "store", *filled, code=2)
    assert all(part in result.stderr for part in both)


def test_every_item_failed(broken: Path, tmp_path: Path) -> None:
    result = topwork_command("extract", broken, "--store", tmp_path / "s", code=1)
    assert "2 items: 0 ok, 2 failed" in result.stdout
    assert "2 of 2" in result.stderr
    assert topwork_json("extract", broken, "--store", tmp_path / "s", code=1)["failed"] == 2
    assert topwork_json("store", "retry", tmp_path / "s", broken, code=1)["failed"] == 2


@pytest.mark.parametrize("option", ["--rehash", "--recompute"])
def test_file_that_changed_with_equal_size_and_time_is_computed_on_request(
    option: str, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("a.bmp", 30), ("b.bmp", 200)):
        Image.new("RGB", (40, 40), (colour, 0, 0)).save(folder / name)
        os.utime(folder / name, (10**9, 10**9))
    extract = ["extract", folder, "--store", tmp_path / "s"]
    topwork_command(*extract)
    before = np.array(FeatureStore.open(tmp_path / "s").take(["a.bmp", "b.bmp"], "last"))
    Image.new("RGB", (40, 40), (200, 0, 0)).save(folder / "a.bmp")
    os.utime(folder / "a.bmp", (10**9, 10**9))
    assert topwork_json(*extract)["computed"] == 0
    assert topwork_json(*extract, option)["computed"] == {"--rehash": 1, "--recompute": 2}[option]
    after = FeatureStore.open(tmp_path / "s").take(["a.bmp", "b.bmp"], "last")
    assert np.allclose(after, before[[1, 1]], atol=1e-3)
    assert topwork_json(*extract, "--rehash")["computed"] == 0


def test_dry_run_of_pruning_and_compacting_writes_nothing(work: Path, photos: Path) -> None:
    before = FeatureStore.open(work / "store").log.entries()
    prune = ["extract", photos / "sky", "--store", work / "store", "--prune", "--dry-run"]
    assert topwork_json(*prune)["pruned"] == 25
    assert topwork_json("extract", work / "photos", "--store", work / "store", "--prune", "--dry-run")["pruned"] == 0
    assert "would merge" in topwork_command("store", "compact", work / "store", "--dry-run").stdout
    assert topwork_command("extract", photos, "--store", work / "store", "--dry-run", code=2).stdout == ""
    assert FeatureStore.open(work / "store").log.entries() == before


def test_precision_of_a_new_store_is_chosen_by_the_score_of_a_head(work: Path, tmp_path: Path) -> None:
    run = ["--precision", "int8", "--fidelity", "score"]
    ledger = topwork_json("extract", work / "photos", "--store", tmp_path / "s", *run)
    assert (ledger["ok"], ledger["failed"]) == (24, 1)
    assert ledger["precision"].startswith("int8:")
    fidelity = topwork_json("store", "info", tmp_path / "s")["fidelity"]
    assert {entry["precision"]: entry["score"] > 0.8 for entry in fidelity} == {"fp32": True, ledger["precision"]: True}
    refused = topwork_command("extract", work / "photos", "--store", tmp_path / "s", *run, code=2)
    assert "expected a new store" in refused.stderr


@pytest.mark.parametrize("option", [["--plan"], ["--shard", "0/2"]], ids=" ".join)
def test_score_of_a_head_is_not_asked_for_in_vain(option: list[str], work: Path, tmp_path: Path) -> None:
    command = ["extract", work / "photos", "--store", tmp_path / "s", "--fidelity", "score", *option]
    assert "neither --plan nor --shard" in topwork_command(*command, code=2).stderr


def test_score_of_a_head_needs_labels(work: Path, tmp_path: Path) -> None:
    for number in range(2):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(tmp_path / f"{number}.png")
    refused = topwork_command("extract", tmp_path, "--store", tmp_path / "s", "--fidelity", "score", code=2)
    assert "label" in refused.stderr
    wrong = topwork_command("extract", work / "photos", "--store", tmp_path / "s", "--fidelity", "best", code=2)
    assert "expected 'features' or 'score'" in wrong.stderr
    assert not (tmp_path / "s").exists()


COMMAND_THEN_PANDAS = """
import contextlib, sys
from topwork.pipelines.cli.main import main
with contextlib.suppress(SystemExit):
    main()
print("pandas" in sys.modules)
import pandas, pyarrow
print(pyarrow.Table.from_pandas(pandas.DataFrame({"a": [1]})).to_pandas()["a"].tolist())
print(pyarrow.array(pandas.Series([2])))
"""


def test_commands_leave_pandas_to_those_who_need_it(work: Path, tmp_path: Path) -> None:
    command = ["extract", str(work / "photos"), "--store", str(work / "store"), "--quiet"]
    ended = subprocess.run([sys.executable, "-c", COMMAND_THEN_PANDAS, *command], capture_output=True, text=True)
    assert ended.stdout.split() == ["False", "[1]", "[", "2", "]"], ended.stderr
