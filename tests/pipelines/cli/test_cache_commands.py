"""``topwork cache verify`` names what is damaged or planted."""

from __future__ import annotations

from pathlib import Path

import pytest
from topwork.user_cache import remember

from .running import topwork_command, topwork_json


def test_verify_tells_damaged_from_intact_and_unsealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    assert topwork_json("cache", "verify")["intact"] == []
    for name in ("a", "b"):
        remember(tmp_path / "cache" / "tuning" / f"{name}.json", {"runs": 1})
    assert "all 2 entries" in topwork_command("cache", "verify").stdout
    (tmp_path / "cache" / "graphs" / "key").mkdir(parents=True, mode=0o700)
    (tmp_path / "cache" / "graphs").chmod(0o700)
    (tmp_path / "cache" / "graphs" / "key" / "graph.onnx").write_bytes(b"")
    assert topwork_json("cache", "verify")["unsealed"] == ["graphs/key/graph.onnx"]
    (tmp_path / "cache" / "tuning" / "b.json").write_text("{}")
    found = topwork_json("cache", "verify", code=3)
    assert (found["damaged"], found["intact"]) == (["tuning/b.json"], ["tuning/a.json"])
    assert "tuning/b.json" in topwork_command("cache", "verify", code=3).stderr
