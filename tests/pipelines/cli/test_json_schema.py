"""The keys that every command prints with ``--json`` are those of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .running import topwork_json

PAGE = Path(__file__).parents[3] / "docs" / "command-line.rst"
ROW = re.compile(r"^   \* - (``.*)\n     - ((?:.+\n(?:       .+\n)*))", re.MULTILINE)
RUNS = {
    "layers": "layers topwork:tiny --layer layer1",
    "layers --check": "layers topwork:tiny --layer layer1 --check",
    "extract": "extract {work}/photos --store {work}/store",
    "extract --plan": "extract {work}/photos --store {tmp}/s --layer layer1 --plan",
    "store info": "store info {work}/store",
    "store verify": "store verify {work}/store",
    "store repair": "store repair {copy}",
    "store retry": "store retry {copy} {work}/photos",
    "store failures": "store failures {work}/store",
    "store label": "store label {copy} {tmp}/labels.csv",
    "store compact": "store compact {work}/store --dry-run",
    "store merge": "store merge {copy} {work}/store",
    "store export": "store export {work}/store {tmp}/rows.parquet",
    "store import": "store import {tmp}/imported {tmp}/rows.parquet",
    "audit": "audit {work}/store",
    "fit": "fit {work}/store --head lda --out {tmp}/bundle",
    "finetune": "finetune {work}/photos --from layer2 --epochs 1 --no-advice --on-error record --out {tmp}/tuned",
    "refit": "refit {work}/bundle {work}/store --out {tmp}/child",
    "evaluate (labels)": "evaluate {work}/bundle {work}/store",
    "predict --out": "predict {work}/bundle {work}/store --out {tmp}/rows.csv",
    "predict": "predict {work}/bundle {work}/store",
    "export": "export {work}/bundle {tmp}/model.onnx",
    "explain": "explain {work}/bundle {photo}",
    "report": "report {work}/bundle {work}/store --out {tmp}/report.html",
    "show (a bundle)": "show {work}/bundle",
    "show (a store)": "show {work}/store",
    "heads": "heads",
    "doctor": "doctor",
    "doctor --bench": "doctor --bench --backbone topwork:tiny",
    "cache info": "cache info",
    "cache clean": "cache clean --dry-run",
}
SLOW = {"probe": "probe {work}/store"}
MAY_BE_ABSENT = {"predict --out": {"unfamiliar"}}
"""Keys of what a bundle does not know, here whether items are familiar: it has too few rows."""
UNTESTED = {"cache verify"}
"""Its exit code depends on the cache of the machine; it has a test of its own."""


def read_page() -> dict[str, list[str]]:
    """Return the documented keys of each command."""
    keys: dict[str, list[str]] = {}
    text = PAGE.read_text("utf-8").partition("What ``--json`` prints")[2]
    for names, listed in ROW.findall(text):
        for name in names.split(", "):
            keys[name.replace("``", "")] = [key.strip() for key in " ".join(listed.split()).split(",")]
    return keys


DOCUMENTED = read_page()


@pytest.fixture(scope="module")
def place(work: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders that the commands name."""
    import shutil

    folder = tmp_path_factory.mktemp("schema")
    shutil.copytree(work / "store", folder / "copy")
    (folder / "labels.csv").write_text("id,label\nsky/0.png,x\n")
    return {"work": work, "tmp": folder, "copy": folder / "copy", "photo": photos / "sky" / "0.png"}


@pytest.mark.parametrize("name", RUNS)
def test_keys_are_the_documented_ones(name: str, place: dict[str, Path]) -> None:
    found = topwork_json(*RUNS[name].format(**place).split())
    absent = MAY_BE_ABSENT.get(name, set())
    assert [key for key in DOCUMENTED[name] if key in found or key not in absent] == list(found)


@pytest.mark.coverage
@pytest.mark.parametrize("name", SLOW)
def test_keys_of_slow_commands(name: str, place: dict[str, Path]) -> None:
    assert list(topwork_json(*SLOW[name].format(**place).split())) == DOCUMENTED[name]


def test_every_documented_object_is_tested() -> None:
    assert set(DOCUMENTED) == {*RUNS, *SLOW, *UNTESTED}
