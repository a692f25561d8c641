"""``topwork store …``: what the commands read, change and print."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from topwork import FeatureStore
from topwork.pipelines.cli.main import app
from typer.testing import CliRunner

from .running import BROKEN_ID, LEDGER_FIELDS, topwork_command, topwork_json


def test_store_info_counts_what_is_there(work: Path) -> None:
    info, store = topwork_json("store", "info", work / "store"), FeatureStore.open(work / "store")
    assert info.keys() >= LEDGER_FIELDS
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
    assert failure["id"] == BROKEN_ID
    assert failure["reason"]
    printed = topwork_command("store", "failures", work / "store").stdout
    assert printed.splitlines() == ["1 failed", f"  failed: {BROKEN_ID}: {failure['reason']}"]


@pytest.fixture
def store(tmp_path: Path, photos: Path) -> Path:
    """Return a store of ``photos/`` beside it, one of whose files is broken."""
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "roof" / "bad.png").write_bytes(b"no image")
    topwork_command("extract", tmp_path / "photos", "--store", tmp_path / "store")
    return tmp_path / "store"


def test_damage_is_reported_repaired_and_recomputed(store: Path) -> None:
    before = FeatureStore.open(store)
    expected = np.array(before.matrix("last"))
    path = store / str(before.state.compacted) / "c0001.npy"
    path.write_bytes(path.read_bytes()[:-5])
    damaged = topwork_command("store", "verify", store, code=2)
    assert "1 files" in damaged.stderr
    assert "store repair" in damaged.stderr
    assert topwork_json("store", "repair", store) == {"pending": before.ids, "lost": []}
    assert "24 pending" in topwork_command("store", "info", store).stdout
    topwork_command("extract", store.parent / "photos", "--store", store)
    assert "all files match their SHA-256" in topwork_command("store", "verify", store).stdout
    np.testing.assert_array_equal(FeatureStore.open(store).matrix("last"), expected)


def test_failures_are_written_and_retried(store: Path) -> None:
    out = store.parent / "failures.csv"
    assert "1 failed; wrote" in topwork_command("store", "failures", store, "--out", out).stdout
    assert [row["id"] for row in csv.DictReader(out.open(encoding="utf-8"))] == ["roof/bad.png"]
    ledger = topwork_json("store", "retry", store, store.parent / "photos")
    assert (ledger["computed"], ledger["failed"], ledger["items"]) == (1, 1, 25)


def test_labels_come_from_a_table(store: Path) -> None:
    table = store.parent / "labels.csv"
    table.write_text("id,label,split\nroof/0.png,tiles,test\nsky/0.png,clouds,train\n", encoding="utf-8")
    assert topwork_json("store", "label", store, table) == {"items": 2, "labels": ["label", "split"]}
    opened = FeatureStore.open(store)
    assert opened.labels[opened.ids.index("roof/0.png")] == "tiles"
    assert opened.splits.count("test") == 1
    table.write_text("id,label\nnobody,tiles\n", encoding="utf-8")
    assert "'nobody'" in topwork_command("store", "label", store, table, code=2).stderr


def test_columns_are_added(store: Path) -> None:
    photos = store.parent / "photos"
    refused = topwork_command("extract", photos, "--store", store, "--layer", "layer2", code=2)
    assert "--add-columns" in refused.stderr
    added = topwork_command("extract", photos, "--store", store, "--layer", "layer2", "--add-columns")
    assert "computed the new columns of 24 items; the store has last, layer2" in added.stdout
    assert [c["name"] for c in topwork_json("store", "info", store)["columns"]] == ["last", "layer2"]
    nothing = topwork_command("extract", photos, "--store", store.parent / "none", "--add-columns", code=2)
    assert "--add-columns" in nothing.stderr


def test_views_half_precision_and_pruning(store: Path) -> None:
    photos, half = store.parent / "photos", store.parent / "half"
    ledger = topwork_json("extract", photos, "--store", half, "--views", 2, "--dtype", "float16")
    assert (ledger["items"], ledger["failed"]) == (75, 3)
    assert FeatureStore.open(half).matrix("last").dtype == np.float16
    (photos / "sky" / "0.png").unlink()
    ledger = topwork_json("extract", photos, "--store", half, "--prune")
    assert (ledger["pruned"], ledger["items"]) == (3, 72)
    assert (
        "items that are not in this source were removed"
        in topwork_command("extract", photos, "--store", store, "--prune").stdout
    )


def test_parts_are_merged_once(store: Path) -> None:
    assert topwork_json("store", "compact", store) == {"parts": 1, "rows": 24}


@pytest.mark.parametrize(("answer", "is_merged"), [("n", False), ("y", True)])
def test_compact_asks_at_a_terminal(answer: str, is_merged: bool, work: Path) -> None:
    arguments = ["store", "compact", str(work / "store")]
    with (
        patch("topwork.pipelines.cli.store_commands.is_at_terminal", return_value=True),
        patch.object(FeatureStore, "compact") as merge,
    ):
        result = CliRunner().invoke(app, arguments, input=f"{answer}\n")
    assert "Merge 1 parts" in result.stdout
    assert merge.called == is_merged
