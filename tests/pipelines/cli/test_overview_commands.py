"""``topwork heads``, ``topwork doctor`` and ``topwork demo``: what they print and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from topwork.heads.registry import HEADS
from topwork.pipelines.cli.overview_commands import print_bench

from .running import topwork_command, topwork_json


def test_heads_lists_every_name() -> None:
    assert [entry["name"] for entry in topwork_json("heads")["heads"]] == list(HEADS)
    lines = topwork_command("heads").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:-2]] == list(HEADS)
    assert all(len(line) <= 80 for line in lines)


def test_measurements_fit_into_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    measured = {
        "provider": "tensorrt",
        "precision": "int8:3fa94c1b",
        "items_per_second": 123456.7,
        "speed": 12.345,
        "usual": 0.0123,
        "worst": 0.04,
        "kept": 123,
        "verdict": "worst above 0.05",
    }
    taken = {**measured, "provider": "cpu", "precision": "fp32", "verdict": "auto takes it"}
    network = {"network": "x", "items": 40, "synthetic": True, "measured": [measured, taken], "failed": ["fp16: no"]}
    print_bench([network])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "x: 40 synthetic items"
    shown = "tensorrt int8:3fa94c1b 123 123457 12.35 0.0123 0.0400 worst above 0.05"
    assert " ".join(lines[3].split()) == shown
    assert lines[4].endswith("auto takes it")
    assert lines[5] == "  failed: fp16: no"
    assert all(len(line) <= 80 for line in lines)
    print_bench([{**network, "synthetic": False}])
    own_lines = capsys.readouterr().out.splitlines()
    assert own_lines[1] == "x: 40 of your own items"
    assert len(own_lines) == len(lines) - 2  # which are about synthetic items


def test_demo_refuses_an_existing_folder(tmp_path: Path) -> None:
    assert str(tmp_path) in topwork_command("demo", "--keep", tmp_path, code=2).stderr
