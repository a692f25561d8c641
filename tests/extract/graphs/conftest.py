"""Graphs that several files of tests share."""

from __future__ import annotations

import pytest
import topwork
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.export import export
from topwork.extract.graphs.exported_graph import ExportedGraph


@pytest.fixture(scope="session")
def tiny() -> topwork.Backbone:
    """Return the built-in backbone, which is traced once for all tests."""
    return topwork.load_backbone("topwork:tiny")


@pytest.fixture(scope="session")
def tiny_request() -> CutRequest:
    return CutRequest(("layer2", "last"), ("avg", "max"))


@pytest.fixture(scope="session")
def tiny_graph(
    tiny: topwork.Backbone, tiny_request: CutRequest, tmp_path_factory: pytest.TempPathFactory
) -> ExportedGraph:
    """Return a graph of the built-in backbone, in a folder of its own: layer2.avg, layer2.max, last."""
    return export(tiny, tiny_request, tmp_path_factory.mktemp("tiny") / "graph")
