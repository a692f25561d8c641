"""The main workflow on real photographs with real weights, from the command line: ants and bees."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import topwork
from PIL import Image, ImageOps
from topwork import BackboneSpec, InputOverrides, TransferClassifier
from topwork.extract.preprocess.decode import decode
from topwork.extract.preprocess.resize import to_pixels

MODEL = ["--backbone", "timm:mobilenetv2_035", "--mean", "0.5", "--std", "0.5"]
MODEL += [f"--model-arg={argument}" for argument in ("num_classes=0", "pad_type=same", "bn_eps=1e-3")]
STEPS = [4, pytest.param(1, marks=pytest.mark.coverage)]
"""Every fourth photograph in the suite, every single one in `make coverage`."""


def topwork_json(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "topwork", *map(str, arguments), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    value: dict[str, Any] = json.loads(result.stdout)
    return value


@pytest.fixture(scope="module")
def trained(hymenoptera: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Train on ``train/`` with the real weights; return the folder of store and bundle, and the ledger."""
    folder = tmp_path_factory.mktemp("pretrained")
    weights = data / "backbones" / "mobilenetv2_035.in1k.safetensors"
    model = [*MODEL, "--weights", weights]
    ledger = topwork_json("extract", hymenoptera / "train", *model, "--store", folder / "features")
    topwork_json("fit", folder / "features", "--head", "logreg", "--out", folder / "bundle")
    return folder, ledger


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


@pytest.mark.parametrize("step", STEPS)
def test_random_weights_do_not(step: int, hymenoptera: Path, mobilenet_options: dict[str, Any]) -> None:
    preprocessing = InputOverrides(mean=mobilenet_options["mean"], std=mobilenet_options["std"])
    spec = BackboneSpec("timm:mobilenetv2_035", "random", mobilenet_options["model_args"], preprocessing)
    classifier = TransferClassifier(spec, head="logreg", precision="fp32", cv=0)
    train = sorted((hymenoptera / "train").rglob("*.jpg"))[::step]
    classifier.fit(train, [path.parent.name for path in train])
    val = sorted((hymenoptera / "val").rglob("*.jpg"))[::step]
    assert classifier.score(val, [path.parent.name for path in val]) < 0.70


@pytest.mark.parametrize("step", STEPS)
def test_fused_file_agrees_with_predict(
    step: int, trained: tuple[Path, dict[str, Any]], hymenoptera: Path, tmp_path: Path
) -> None:
    photographs = sorted((hymenoptera / "val").rglob("*.jpg"))[::step]
    for path in photographs:
        copy = tmp_path / "photographs" / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    topwork_json("export", trained[0] / "bundle", tmp_path / "model.onnx")
    topwork_json("predict", trained[0] / "bundle", tmp_path / "photographs", "--out", tmp_path / "out.csv")
    with open(tmp_path / "out.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(photographs) == (153 if step == 1 else 39)

    spec = topwork.load(trained[0] / "bundle").extractor_.graph.input_spec
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for row in rows:
        pixels = to_pixels(decode((tmp_path / "photographs" / row["id"]).read_bytes(), spec), spec)
        labels, probabilities, familiar = session.run(None, {name: pixels[None]})
        assert labels[0] == row["label"]
        assert str(familiar[0]).lower() == row["familiar"].lower()
        expected = [float(row["p_ants"]), float(row["p_bees"])]
        np.testing.assert_allclose(probabilities[0], expected, atol=1e-4)


@pytest.mark.parametrize("step", STEPS)
def test_fused_file_of_any_size_agrees_with_predict(
    step: int, trained: tuple[Path, dict[str, Any]], hymenoptera: Path, tmp_path: Path
) -> None:
    photographs = sorted((hymenoptera / "val").rglob("*.jpg"))[::step]
    assert len(photographs) == (153 if step == 1 else 39)
    arguments = ["--input", "any-size", "--items", hymenoptera / "train" / "ants"]
    facts = topwork_json("export", trained[0] / "bundle", tmp_path / "model.onnx", *arguments)
    assert (facts["input"], facts["items"]) == ("any-size", 5 + 64)  # sample photographs and given ones

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    outputs = []
    for path in photographs:
        upright = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        outputs.append(session.run(None, {"pixels": np.asarray(upright)[None]}))
    labels, probabilities, familiar = (np.concatenate(values) for values in zip(*outputs, strict=True))
    classifier = topwork.load(trained[0] / "bundle")
    assert labels.tolist() == classifier.predict(photographs).tolist()
    np.testing.assert_allclose(probabilities, classifier.predict_proba(photographs), atol=1e-3)
    assert familiar.tolist() == classifier.familiar(photographs).tolist()
