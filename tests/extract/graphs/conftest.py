"""Graphs that several files of tests share."""

from __future__ import annotations

import pytest
import topwork
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.export import export
from topwork.extract.graphs.exported_graph import ExportedGraph


@pytest.fixture(scope="session")
def tiny_request() -> CutRequest:
    return CutRequest(("layer2", "last"), ("avg", "max"))


@pytest.fixture(scope="session")
def tiny_graph(tiny_request: CutRequest, tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    """Return a graph of the built-in backbone, in a folder of its own."""
    backbone = topwork.load_backbone("topwork:tiny")
    return export(backbone, tiny_request, tmp_path_factory.mktemp("tiny") / "graph")
