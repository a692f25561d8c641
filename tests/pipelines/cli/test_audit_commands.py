"""``topwork audit``: what it prints, writes, refuses and applies."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from topwork import FeatureStore

from .running import BROKEN_ID, topwork_command, topwork_json


@pytest.fixture
def copied(tmp_path: Path, photos: Path) -> Path:
    """Return a folder of photographs with two copies: one of another label, one in another split."""
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder / "train")
    shutil.copyfile(photos / "sky" / "0.png", folder / "train" / "roof" / "copy.png")
    (folder / "test" / "flower").mkdir(parents=True)
    shutil.copyfile(photos / "flower" / "3.png", folder / "test" / "flower" / "3.png")
    return folder


def test_a_source_is_extracted_and_audited(copied: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    facts = topwork_json("audit", copied, "--backbone", "topwork:tiny", "--store", store)
    assert (facts["items"], facts["labelled"], facts["columns"]) == (26, 26, ["last"])
    by_kind = {kind: [finding for finding in facts["findings"] if finding["kind"] == kind] for kind in facts["counts"]}
    (leak,) = by_kind["leakage"]
    assert (leak["id"], leak["related"]) == ("train/flower/3.png", "test/flower/3.png")
    (duplicate,) = by_kind["duplicate"]
    assert {duplicate["id"], duplicate["related"]} == {"train/roof/copy.png", "train/sky/0.png"}
    assert duplicate["suggestion"] == "review"
    assert topwork_json("audit", copied, "--store", store) == facts
    assert topwork_json("audit", store) == facts


def test_findings_are_written_edited_and_applied(copied: Path, tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "findings.csv"
    printed = topwork_command("audit", copied, "--store", store, "--out", out).stdout
    assert "26 items, 26 with a label" in printed
    assert f"--apply {out}" in printed
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["id", "kind", "evidence", "suggestion", "score", "label", "related"]
    kept = [row for row in rows if row["kind"] == "leakage"]
    kept += [row | {"suggestion": "relabel", "label": "sky"} for row in rows if row["kind"] == "duplicate"]
    with out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    applied = topwork_json("audit", store, "--apply", out)
    relabelled_id = kept[1]["id"]
    expected = {
        "relabelled": {relabelled_id: "sky"},
        "excluded": {"train/flower/3.png": "leakage of test/flower/3.png"},
    }
    assert applied == {**expected, "ignored": 0}
    opened = FeatureStore.open(store)
    label_of = dict(zip(opened.ids, opened.labels, strict=True))
    assert label_of["train/flower/3.png"] is None
    assert label_of[relabelled_id] == "sky"
    assert "1 items relabelled, 1 excluded" in topwork_command("audit", store, "--apply", out).stdout
    assert topwork_json("audit", store)["counts"]["leakage"] == 0


def test_groups_are_labels_of_the_store(copied: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    topwork_command("extract", copied, "--store", store)
    ids = FeatureStore.open(store).ids
    table = tmp_path / "groups.csv"
    lines = [f"{item_id},{'a' if 'sky' in item_id else 'b'}" for item_id in ids]
    table.write_text("\n".join(["id,place", *lines]), encoding="utf-8")
    topwork_command("store", "label", store, table)
    findings = topwork_json("audit", store, "--group-column", "place")["findings"]
    leaks = {finding["id"] for finding in findings if finding["kind"] == "leakage"}
    assert leaks & {"train/roof/copy.png", "train/sky/0.png"}
    assert "'nothing'" in topwork_command("audit", store, "--group-column", "nothing", code=2).stderr


def test_failed_items_are_left_out(work: Path) -> None:
    facts = topwork_json("audit", work / "store")
    assert facts["items"] == 24
    assert BROKEN_ID not in {finding["id"] for finding in facts["findings"]}


def test_wrong_audits_are_refused(work: Path, photos: Path, tmp_path: Path) -> None:
    store = work / "store"
    assert "--store" in topwork_command("audit", photos, code=2).stderr
    assert "--backbone" in topwork_command("audit", store, "--backbone", "topwork:tiny", code=2).stderr
    assert ".txt" in topwork_command("audit", store, "--out", tmp_path / "a.txt", code=2).stderr
    assert "layer9" in topwork_command("audit", store, "--layer", "layer9", code=2).stderr
    assert "near" in topwork_command("audit", store, "--near", "2", code=2).stderr
    out = tmp_path / "findings.csv"
    topwork_command("audit", store, "--out", out)
    assert "--out" in topwork_command("audit", store, "--apply", out, "--out", out, code=2).stderr
    assert "feature store" in topwork_command("audit", photos, "--apply", out, code=2).stderr
