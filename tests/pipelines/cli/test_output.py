"""Output: plain tables, one JSON object, lists of failures that stay short."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from topwork.extract.engine import Stages
from topwork.extract.ledger import Ledger
from topwork.pipelines.cli.output import print_failures, print_json, print_ledger, print_table

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
    print_ledger(ledger)
    assert capsys.readouterr().out.splitlines() == [
        "5 items: 3 ok, 1 failed, 1 duplicate; 2 other files left out",
        "  failed: x: y",
        "computed 5 in 2.0 s, 2 items/s; summed over threads: read 1.0 s, decode 2.0 s, infer 3.0 s, write 4.0 s",
    ]
    print_ledger(Ledger(5, 5, computed=5, truncated=2, seconds=1.0))
    assert capsys.readouterr().out.splitlines()[1] == (
        "2 of them were longer than the network takes and were truncated"
    )
    print_ledger(Ledger(5, 5))
    assert capsys.readouterr().out.splitlines()[1] == "nothing to compute: everything is in the store"
