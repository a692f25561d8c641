"""``topwork report`` writes a page of a bundle alone, of a source, and of a store with its items."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import BROKEN_ID, topwork_command, topwork_json


def test_bundle_alone(work: Path, tmp_path: Path) -> None:
    printed = topwork_command("report", work / "bundle", "--out", tmp_path / "report.html").stdout
    assert "Give a source or a feature store" in printed
    assert f"wrote {tmp_path / 'report.html'}" in printed
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_source_with_a_broken_file(work: Path, tmp_path: Path) -> None:
    facts = topwork_json("report", work / "bundle", work / "photos", "--out", tmp_path / "report.html")
    assert (facts["items"], facts["failed"], facts["thumbnails"]) == (24, 1, 24)
    assert BROKEN_ID in (tmp_path / "report.html").read_text("utf-8")


def test_store_with_its_items(work: Path, tmp_path: Path) -> None:
    arguments = [work / "bundle", work / "store", "--items", work / "photos", "--no-audit"]
    facts = topwork_json("report", *arguments, "--out", tmp_path / "report.html")
    assert facts["thumbnails"] == 24
    assert facts["missing"] == ["Give a store of several layers to see how the score depends on the layer."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{w}/bundle --items {w}/photos", "topwork report BUNDLE STORE"),
        ("{w}/bundle {w}/photos --items {w}/photos", "leave --items out"),
        ("{w}/store", "is no bundle but a store"),
        ("{w}/bundle --split val", "split="),
    ],
)
def test_wrong_use_is_told(arguments: str, message: str, work: Path, tmp_path: Path) -> None:
    words = arguments.format(w=work).split()
    result = topwork_command("report", *words, "--out", tmp_path / "report.html", code=2)
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []
