"""Output: plain tables, one JSON object, lists of failures that stay short."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from topwork.extract.engine.ledger import Ledger, Stages
from topwork.extract.jobs.plan import Plan
from topwork.pipelines.cli.output import (
    format_duration,
    format_size,
    print_failures,
    print_json,
    print_ledger,
    print_plan,
    print_table,
)

Capture = pytest.CaptureFixture[str]


def test_json_is_one_line(capsys: Capture) -> None:
    value = {"label": "größe\n", "path": Path("/a/b"), "none": None, "share": 0.5}
    print_json(value)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {**value, "path": "/a/b"}


def test_columns_of_a_table_are_set_in_line(capsys: Capture) -> None:
    print_table(["label", "items", "accuracy"], [["ants", "70", "0.9143"], ["bumble-bees", "8", "1.0000"]])
    assert capsys.readouterr().out.splitlines() == [
        "label        items  accuracy",
        "ants            70    0.9143",
        "bumble-bees      8    1.0000",
    ]


def test_table_without_rows_has_its_header(capsys: Capture) -> None:
    print_table(["column", "pool"], [])
    assert capsys.readouterr().out == "column  pool\n"


def test_long_lists_of_failures_are_cut(capsys: Capture) -> None:
    print_failures([(f"{i}.png", "broken") for i in range(12)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  failed: 0.png: broken"
    assert lines[9:] == ["  failed: 9.png: broken", "  … and 2 more"]
    print_failures([("a", "b")] * 10)
    assert "more" not in capsys.readouterr().out


def test_ledger_is_printed_with_its_counts_and_times(capsys: Capture) -> None:
    stages = Stages(read=1, decode=2, infer=3, write=4)
    ledger = Ledger(5, 3, 1, 1, computed=5, ignored=2, failures=[("x", "y")], stages=stages, seconds=2.0)
    ledger.provider, ledger.precision, ledger.cores, ledger.runs = "cpu", "fp32", 4, 4
    ledger.computing_seconds, ledger.peak_memory = 1.6, 312_400_000
    print_ledger(ledger)
    assert capsys.readouterr().out.splitlines() == [
        "5 items: 3 ok, 1 failed, 1 duplicate; 2 files of other types ignored",
        "  failed: x: y",
        "computed 5 in 2.0 s, 2.5 items/s, on cpu in fp32",
        "summed over threads: read 1.0 s, decode 2.0 s, infer 3.0 s, write 4.0 s",
        "94% of the throughput that 4 cores allow; peak memory 312 MB",
    ]
    ledger.provider = "cuda"
    print_ledger(ledger)
    assert capsys.readouterr().out.splitlines()[-1] == "peak memory 312 MB"
    print_ledger(Ledger(5, 5, computed=5, truncated=2, seconds=1.0))
    assert capsys.readouterr().out.splitlines()[1] == (
        "2 of them were longer than the model's maximum length and were truncated"
    )
    print_ledger(Ledger(5, 5))
    assert capsys.readouterr().out.splitlines()[1] == "nothing to compute: everything is in the store"


def test_plan_is_printed_with_its_forecasts(capsys: Capture) -> None:
    sample = Ledger(50, 49, 1, failures=[("x", "y")], provider="cpu", precision="fp32", peak_memory=312_400_000)
    print_plan(Plan(1000, 800, 250.0, 4_060_000, sample))
    assert capsys.readouterr().out.splitlines() == [
        "1000 items: 800 to compute, 200 in the store",
        "timed 50 of them on cpu in fp32, 1 failed; nothing was written",
        "  failed: x: y",
        "time    4 min 10 s, 3.2 items/s",
        "disk    4.1 MB",
        "memory  312 MB",
    ]
    print_plan(Plan(5, 0, 0.0, 0, Ledger()))
    assert capsys.readouterr().out.splitlines() == [
        "5 items: 0 to compute, 5 in the store",
        "nothing to compute: everything is in the store",
    ]


def test_figures_are_for_people() -> None:
    assert [format_duration(s) for s in (0.04, 3.31, 250.2, 7500)] == ["0.0 s", "3.3 s", "4 min 10 s", "2 h 5 min"]
    assert [format_size(n) for n in (40_000, 4_060_000, 312_400_000, 2_500_000_000)] == [
        "0.0 MB",
        "4.1 MB",
        "312 MB",
        "2.5 GB",
    ]
