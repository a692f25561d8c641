"""``topwork probe``: what it prints, and what it refuses."""

from __future__ import annotations

from pathlib import Path

from .running import topwork_command, topwork_json


def test_probe_prints_a_table_and_a_recommendation(work: Path, tmp_path: Path) -> None:
    arguments = ["probe", work / "photos.tar", "--layer", "layer2,last", "--pool", "avg", "--no-baselines"]
    lines = topwork_command(*arguments).stdout.splitlines()
    assert lines[0].split() == ["layer", "pool", "accuracy", "95", "%", "n", "width", "ms", "LogME", "kNN"]
    assert [line.split()[0] for line in lines[1:4]] == ["layer2", "last", "layer2,last"]
    assert max(map(len, lines)) <= 80
    recommended = next(line for line in lines if line.startswith("recommended: --layer "))
    found = topwork_json(*arguments)
    assert f"--layer {found['best']['layer']} --pool {found['best']['pool']}, " in recommended
    assert found["n"] == 24
    assert len(found["table"]) == 3


def test_probe_tells_what_precisions_cost(work: Path) -> None:
    arguments = ["probe", work / "photos.tar", "--layer", "last", "--pool", "avg", "--no-baselines", "--precisions"]
    arguments += ["--precision", "fp16"]
    lines = topwork_command(*arguments).stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("precision "))
    assert {line.split()[0] for line in lines[start + 1 : start + 3]} == {"fp32", "fp16"}
    assert max(map(len, lines)) <= 80
    found = topwork_json(*arguments)["precisions"]
    assert {fidelity["precision"] for fidelity in found["compared"]} == {"fp32", "fp16"}
    assert all(fidelity["score"] > 0.8 for fidelity in found["compared"])


def test_probe_compares_the_columns_of_a_store(work: Path) -> None:
    found = topwork_json("probe", work / "store")
    assert found["best"]["score"] > 0.8
    assert found["baselines"] == []


def test_probe_refuses_options_of_one_backbone_for_several(work: Path) -> None:
    refused = topwork_command(
        "probe", work / "photos.tar", "--backbone", "topwork:tiny,timm:resnet18", "--mean", "0.5", code=2
    )
    assert "--backbone names 2 backbones" in refused.stderr
    assert "leave out --backbone" in topwork_command("probe", work / "store", "--backbone", "x:y", code=2).stderr
