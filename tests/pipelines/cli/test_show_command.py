"""``topwork show`` fits on a screen of 80 columns, and prints names from outside escaped."""

from __future__ import annotations

from pathlib import Path

import pytest
from topwork import FeatureStore

from .running import topwork_command, topwork_json


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bundle", ["match their SHA-256", "classification, 3 classes", "lda", "topwork:tiny", "certificate", "rows"]),
        ("store", ["items", "failed", "label", "last (", "fingerprint"]),
    ],
)
def test_one_screen(name: str, words: list[str], work: Path) -> None:
    shown = topwork_command("show", work / name).stdout
    assert [word for word in words if word not in shown] == []
    lines = shown.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= max(80, len(str(work)) + 30)
    assert topwork_json("show", work / name)["kind"] == name


def test_fused_file(work: Path, tmp_path: Path) -> None:
    topwork_command("export", work / "bundle", tmp_path / "model.onnx")
    shown = topwork_command("show", tmp_path / "model.onnx").stdout
    assert "image: uint8" in shown
    assert "topwork:tiny" in shown


def test_labels_cannot_break_a_line(photos: Path, tmp_path: Path) -> None:
    topwork_command("extract", photos, "--store", tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    store.set_labels({store.ids[0]: "a\nitems 5 \x1b[2J"})
    shown = topwork_command("show", tmp_path / "store").stdout
    assert "\x1b" not in shown
    assert "a\\nitems 5" in shown


def test_damaged_file_is_named(work: Path, tmp_path: Path) -> None:
    for path in (work / "bundle").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "extractor.canaries.npz").write_bytes(b"")
    shown = " ".join(topwork_command("show", tmp_path).stdout.split())
    assert "DAMAGED: " in shown
    assert "extractor.canaries.npz" in shown
