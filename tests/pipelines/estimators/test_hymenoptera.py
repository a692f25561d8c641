"""The main job on real photographs with real weights, from the command line: ants and bees."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import topwork
from topwork.extract.preprocess.decode import decode
from topwork.extract.preprocess.resize import to_pixels

MODEL = ["--backbone", "timm:mobilenetv2_035", "--mean", "0.5", "--std", "0.5"]
MODEL += [f"--model-arg={argument}" for argument in ("num_classes=0", "pad_type=same", "bn_eps=1e-3")]


def topwork_json(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "topwork", *map(str, arguments), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def train(hymenoptera: Path, folder: Path, weights: object, *options: str) -> dict[str, Any]:
    """Extract the features of ``train/`` and fit a head on them; return the ledger."""
    model = [*MODEL, "--weights", weights, *options]
    ledger = topwork_json("extract", hymenoptera / "train", *model, "--store", folder / "features")
    topwork_json("fit", folder / "features", "--head", "logreg", "--out", folder / "bundle")
    return ledger


@pytest.fixture(scope="module")
def trained(hymenoptera: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Train on ``train/`` with the real weights; return the folder of store and bundle, and the ledger."""
    folder = tmp_path_factory.mktemp("pretrained")
    return folder, train(hymenoptera, folder, data / "backbones" / "mobilenetv2_035.in1k.safetensors")


def test_every_photograph_is_accounted_for(trained: tuple[Path, dict[str, Any]]) -> None:
    ledger = trained[1]
    assert ledger["items"] == ledger["ok"] + ledger["failed"] + ledger["duplicate"] == 245
    assert ledger["ok"] + ledger["duplicate"] >= 244


def test_pretrained_features_transfer(trained: tuple[Path, dict[str, Any]], hymenoptera: Path) -> None:
    scores = topwork_json("evaluate", trained[0] / "bundle", hymenoptera / "val")
    assert scores["accuracy"] >= 0.90
    assert scores["n"] == 153
    assert scores["failed"] == 0
    assert {name: entry["n"] for name, entry in scores["per_class"].items()} == {"ants": 70, "bees": 83}


def test_random_weights_do_not(hymenoptera: Path, tmp_path: Path) -> None:
    train(hymenoptera, tmp_path, "random", "--precision", "fp32")
    assert topwork_json("evaluate", tmp_path / "bundle", hymenoptera / "val")["accuracy"] < 0.70


def test_fused_file_agrees_with_predict_on_every_photograph(
    trained: tuple[Path, dict[str, Any]], hymenoptera: Path, tmp_path: Path
) -> None:
    topwork_json("export", trained[0] / "bundle", tmp_path / "model.onnx")
    topwork_json("predict", trained[0] / "bundle", hymenoptera / "val", "--out", tmp_path / "out.csv")
    with open(tmp_path / "out.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    spec = topwork.load(trained[0] / "bundle").extractor_.graph.input_spec
    images = (to_pixels(decode((hymenoptera / "val" / row["id"]).read_bytes(), spec), spec) for row in rows)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    found = [session.run(None, {session.get_inputs()[0].name: image[None]}) for image in images]
    assert [label[0] for label, _ in found] == [row["label"] for row in rows]
    assert len(rows) == 153
    expected = np.array([[float(row["p_ants"]), float(row["p_bees"])] for row in rows])
    assert np.abs(np.concatenate([probabilities for _, probabilities in found]) - expected).max() < 1e-4
