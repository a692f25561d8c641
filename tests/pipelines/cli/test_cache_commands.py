"""``topwork cache``: what it holds, what is damaged or planted in it, and how it is emptied."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.graph_cache import graph_for
from topwork.extract.runtime.providers import PROVIDERS
from topwork.extract.runtime.session import make_provider_options
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
    assert topwork_json("cache", "verify", code=3)["unsealed"] == ["graphs/key/graph.onnx"]
    assert "graphs/key/graph.onnx" in topwork_command("cache", "verify", code=3).stderr
    (tmp_path / "cache" / "tuning" / "b.json").write_text('{"sha256": "0", "value": {"runs": 2}}')
    (tmp_path / "cache" / "tuning" / "c.json").write_text('{"runs": 1}')  # as earlier versions wrote it
    found = topwork_json("cache", "verify", code=3)
    assert (found["damaged"], found["intact"]) == (["tuning/b.json"], ["tuning/a.json"])
    assert found["unsealed"] == ["graphs/key/graph.onnx", "tuning/c.json"]
    assert "tuning/b.json" in topwork_command("cache", "verify", code=3).stderr
    for number in range(9):
        (tmp_path / "cache" / "tuning" / f"d{number}.json").write_text("{}")
    assert "and 7 more" in topwork_command("cache", "verify", code=3).stderr


def test_engines_of_tensorrt_are_counted_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    options = make_provider_options(b"graph", PROVIDERS["tensorrt"], "fp16")
    engine = Path(options["trt_engine_cache_path"]) / "model.engine"
    engine.write_bytes(bytes(1000))
    assert topwork_json("cache", "info")["kinds"]["engines"] == {"entries": 1, "bytes": 1000}
    assert topwork_json("cache", "clean")["bytes"] == 1000
    assert not engine.exists()


def test_info_names_graphs_and_clean_removes_only_what_topwork_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("TOPWORK_CACHE", str(cache))
    assert topwork_json("cache", "info")["bytes"] == 0
    graph = graph_for("topwork:tiny", CutRequest(("layer1",), ("auto",), False))
    foreign = [cache / "notes.txt", cache / "graphs" / "mine.txt", cache / "photos" / ("a" * 32) / "photo.png"]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")

    found = topwork_json("cache", "info")
    assert [(entry["backbone"], entry["layers"]) for entry in found["graphs"]] == [("topwork:tiny", ["layer1"])]
    assert found["kinds"]["graphs"]["entries"] == 1
    assert found["bytes"] > graph.path.stat().st_size
    assert "topwork:tiny layer1" in topwork_command("cache", "info").stdout

    assert topwork_json("cache", "clean", "--older-than", 1)["entries"] == 0
    day_before = time.time() - 2 * 24 * 3600
    for path in [graph.path.parent, *graph.path.parent.rglob("*")]:
        os.utime(path, (day_before, day_before))
    assert topwork_json("cache", "clean", "--older-than", 1, "--dry-run")["entries"] == 1
    assert graph.path.exists()
    assert "removed 1 entries" in topwork_command("cache", "clean", "--older-than", 1).stdout
    assert not graph.path.exists()
    assert topwork_json("cache", "clean")["entries"] >= 0
    assert topwork_json("cache", "info")["bytes"] == 0
    assert [path.read_text() for path in foreign] == ["mine"] * 3
    assert "--older-than -1" in topwork_command("cache", "clean", "--older-than", -1, code=2).stderr
