"""``topwork heads`` and ``topwork demo``: what they print and refuse."""

from __future__ import annotations

from pathlib import Path

from topwork.heads.registry import HEADS

from .running import topwork_command, topwork_json


def test_heads_lists_every_name() -> None:
    assert [entry["name"] for entry in topwork_json("heads")["heads"]] == list(HEADS)
    lines = topwork_command("heads").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:-2]] == list(HEADS)
    assert all(len(line) <= 80 for line in lines)


def test_demo_refuses_an_existing_folder(tmp_path: Path) -> None:
    assert str(tmp_path) in topwork_command("demo", "--keep", tmp_path, code=2).stderr
