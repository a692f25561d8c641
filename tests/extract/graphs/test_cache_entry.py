"""A cached graph is used only as it was sealed; whatever else is found in its place is exported anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from topwork.errors import CacheError
from topwork.extract.graphs.cache_check import verify_cache
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.graph_cache import graph_for
from topwork.extract.precision.lowered import lower_graph
from topwork.identity import digest_of_file

LAYER1, LAST = CutRequest(("layer1",), ("avg",)), CutRequest(("last",), ("avg",))


def double_weights(graph: ExportedGraph) -> None:
    """Plant a graph of the same fingerprint that computes other features."""
    model = onnx.load(graph.path)
    weights = max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))
    weights.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weights), weights.name))
    onnx.save(model, graph.path)


def cut_short(graph: ExportedGraph) -> None:
    graph.path.write_bytes(graph.path.read_bytes()[:1000])


def loosen_certificate(graph: ExportedGraph) -> None:
    graph.certificate_path.write_text(graph.certificate_path.read_text().replace('"tolerance": ', '"tolerance": 1'))


def remove_canaries(graph: ExportedGraph) -> None:
    graph.canaries_path.unlink()


def plant_measurements(graph: ExportedGraph) -> None:
    graph.measurements_path.write_text("[]")


def remove_seal(graph: ExportedGraph) -> None:
    graph.path.with_suffix(".seal.json").unlink()


DAMAGES = (double_weights, cut_short, loosen_certificate, remove_canaries, plant_measurements, remove_seal)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExportedGraph:
    """Return a graph in a cache folder of its own, copied from that of the session."""
    graph = graph_for("topwork:tiny", LAST)
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "graphs" / graph.path.parent.name
    (tmp_path / "cache").mkdir(mode=0o700)
    shutil.copytree(graph.path.parent, folder)
    return ExportedGraph(folder / graph.path.name)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_or_planted_graph_is_exported_anew(
    cached: ExportedGraph, damage: Callable[[ExportedGraph], None]
) -> None:
    assert graph_for("topwork:tiny", LAST) == cached
    before = digest_of_file(cached.path)
    damage(cached)
    found = graph_for("topwork:tiny", LAST)
    assert found.path == cached.path
    assert digest_of_file(found.path) == before
    assert not found.measurements_path.exists()
    assert verify_cache()["damaged"] == []


def test_graph_of_another_cut_is_not_accepted(cached: ExportedGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    other = graph_for("topwork:tiny", LAYER1)
    shutil.rmtree(cached.path.parent)
    other.path.parent.rename(cached.path.parent)
    assert [column.layer for column in graph_for("topwork:tiny", LAST).metadata.columns] == ["last"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system has no owners of files")
def test_graph_that_others_may_write_is_refused(cached: ExportedGraph) -> None:
    cached.path.chmod(0o666)
    with pytest.raises(CacheError, match=r"graph\.onnx.*666"):
        graph_for("topwork:tiny", LAST)
    cached.path.chmod(0o600)
    cached.path.parent.chmod(0o777)
    with pytest.raises(CacheError, match="777"):
        graph_for("topwork:tiny", LAST)


def test_damaged_graph_of_a_lower_precision_is_written_anew(cached: ExportedGraph) -> None:
    lowered = lower_graph(cached, "fp16")
    before = digest_of_file(lowered.path)
    double_weights(lowered)
    name = lowered.path.relative_to(cached.path.parents[2]).as_posix()
    assert verify_cache()["damaged"] == [name]
    assert digest_of_file(lower_graph(cached, "fp16").path) == before
    assert name in verify_cache()["intact"]
