"""Names, labels and reasons from outside: nothing that is printed or written can lie about what it is."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pandas
import pytest
from topwork import FeatureStore

from .running import topwork_command, topwork_json

ESCAPES = "a\x1b[2J\x07b"
LINES = "c\r\nd\u2028e"
REORDERED = "f\u202egnp.g"
FORMULA = "=1+1"
UNSAFE = set("\x1b\x07\r\u2028\u202e")
NAMES = [ESCAPES, LINES, REORDERED, FORMULA]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, photos: Path, graph_cache: Path) -> Path:
    """Return a folder with a source, store and bundle in which files and labels have hostile names."""
    root = tmp_path_factory.mktemp("hostile")
    for label, photo_label in zip((ESCAPES, LINES, REORDERED), ("flower", "roof", "sky"), strict=True):
        shutil.copytree(photos / photo_label, root / "photos" / label)
    for name in NAMES:
        (root / "photos" / LINES / f"{name}.png").write_bytes(b"no image")
    topwork_command("extract", root / "photos", "--store", root / "store", "--layer", "layer2")
    topwork_command("fit", root / "store", "--head", "centroid", "--out", root / "bundle")
    return root


def commands(place: Path) -> dict[str, list[object]]:
    photos, store, bundle = place / "photos", place / "store", place / "bundle"
    return {
        "extract": ["extract", photos, "--store", store, "--retry"],
        "fit": ["fit", store, "--head", "centroid", "--out", bundle, "--overwrite"],
        "refit": ["refit", bundle, store, "--out", bundle, "--overwrite"],
        "evaluate": ["evaluate", bundle, photos],
        "predict": ["predict", bundle, photos],
        "failures": ["store", "failures", store],
        "info": ["store", "info", store],
        "retry": ["store", "retry", store, photos],
        "audit": ["audit", store],
        "raise": ["extract", photos, "--store", store, "--retry", "--on-error", "raise"],
        "unknown": ["extract", photos / ESCAPES / "none\x1b[1m", "--store", store],
        "label": ["store", "label", store, place / f"{ESCAPES}.csv"],
    }


@pytest.mark.parametrize("name", list(commands(Path())))
def test_no_command_prints_what_a_terminal_obeys(name: str, place: Path) -> None:
    code = {"raise": 1, "unknown": 2, "label": 2}.get(name, 0)
    result = topwork_command(*commands(place)[name], code=code)
    for printed in (result.stdout, result.stderr):
        assert not UNSAFE & set(printed)
        assert not any(line.strip().startswith((r"d\u2028", "e/")) for line in printed.split("\n"))
    if name in ("extract", "evaluate", "predict", "failures", "unknown"):
        assert r"\x1b[" in result.stdout + result.stderr


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predictions_are_one_row_for_each_item(suffix: str, place: Path, tmp_path: Path) -> None:
    out = tmp_path / f"out{suffix}"
    counts = topwork_json("predict", place / "bundle", place / "photos", "--out", out)
    read = {".csv": pandas.read_csv, ".jsonl": read_json_lines, ".parquet": pandas.read_parquet}
    rows = read[suffix](out)
    assert len(rows) == counts["items"] == 24 + len(NAMES)
    assert {f"{LINES}/{name}.png" for name in NAMES} <= set(rows["id"])
    assert set(rows["label"].dropna()) == {ESCAPES, LINES, REORDERED}


def read_json_lines(path: Path) -> pandas.DataFrame:
    return pandas.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])


@pytest.mark.parametrize("is_safe", [False, True])
def test_formulas_stay_unless_they_are_to_be_safe(is_safe: bool, place: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    shutil.copytree(place / "photos" / LINES, source)
    options = ["--excel-safe"] if is_safe else []
    topwork_command("predict", place / "bundle", source, "--out", tmp_path / "out.csv", *options)
    ids = [row["id"] for row in csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(), newline=""))]
    assert ("'=1+1.png" in ids, "=1+1.png" in ids) == (is_safe, not is_safe)
    topwork_command("store", "failures", place / "store", "--out", tmp_path / "failures.csv", *options)
    failures = pandas.read_csv(tmp_path / "failures.csv")
    assert len(failures) == len(FeatureStore.open(place / "store").failures())


def test_object_for_machines_is_one_line_of_ascii(place: Path) -> None:
    result = topwork_command("predict", place / "bundle", place / "photos", "--json")
    assert result.stdout.isascii()
    assert len(result.stdout.splitlines()) == 1
