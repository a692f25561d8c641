"""A graph describes itself; reading it needs neither torch nor onnx."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import topwork
from topwork.errors import InputError
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.graph_cache import graph_for
from topwork.extract.graphs.graph_metadata import GraphMetadata
from topwork.identity import COMPUTATION

LAYER1 = CutRequest(("layer1",), ("avg",))
WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "onnxscript", "timm", "torchvision"):
            raise ImportError(name + " is not installed")
sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture
def graph(tiny_graph: ExportedGraph) -> ExportedGraph:
    return tiny_graph


def test_metadata_describe_backbone_columns_and_input(tiny: topwork.Backbone, graph: ExportedGraph) -> None:
    metadata = graph.metadata
    identity = {**tiny.identity(), COMPUTATION: metadata.identity[COMPUTATION]}
    assert metadata.backbone == json.loads(json.dumps(identity))
    assert len(metadata.identity[COMPUTATION]) == 64
    assert graph.input_spec == tiny.input_spec
    assert [(c.name, c.layer, c.pool, c.width) for c in metadata.columns] == [
        ("layer2.avg", "layer2", "avg", 40),
        ("layer2.max", "layer2", "max", 40),
        ("last", "last", "none", 80),
    ]
    assert metadata.identity == metadata.backbone
    assert metadata.identity["input"]["decode"] == "exact"


def test_metadata_and_features_are_read_without_torch(graph: ExportedGraph) -> None:
    code = WITHOUT_TORCH + (
        "import json, pathlib, numpy, topwork\n"
        "from topwork.extract.graphs.exported_graph import ExportedGraph\n"
        f"graph = ExportedGraph(pathlib.Path({str(graph.path)!r}))\n"
        "features = topwork.Extractor.from_graph(graph).transform(numpy.ones((1, 40, 40, 3), numpy.uint8))\n"
        "names = [c.name for c in graph.metadata.columns]\n"
        "size = graph.input_spec.size\n"
        "print(json.dumps([names, size, graph.metadata.fingerprint, features.shape, graph.certificate.tolerance]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [
        ["layer2.avg", "layer2.max", "last"],
        [32, 32],
        graph.metadata.fingerprint,
        [1, 160],
        1e-4,
    ]


def test_fingerprint_belongs_to_the_backbone_and_not_to_the_cut(graph: ExportedGraph) -> None:
    assert graph_for("topwork:tiny", LAYER1).metadata.fingerprint == graph.metadata.fingerprint
    other = topwork.load_backbone("topwork:tiny", mean=(0.5, 0.5, 0.5))
    assert GraphMetadata(other.identity(), graph.metadata.columns).fingerprint != graph.metadata.fingerprint


def test_text_form_is_stable(graph: ExportedGraph) -> None:
    text = graph.metadata.to_text()
    assert GraphMetadata.from_text(text) == graph.metadata
    assert GraphMetadata.from_text(text).to_text() == text
    assert json.loads(text)["fingerprint"] == graph.metadata.fingerprint


def test_format_of_another_version_is_refused(graph: ExportedGraph) -> None:
    fields = {**json.loads(graph.metadata.to_text()), "format": 99}
    with pytest.raises(InputError, match=r"99.* 1:"):
        GraphMetadata.from_text(json.dumps(fields))


def test_graph_of_another_maker_is_refused(graph: ExportedGraph, tmp_path: Path) -> None:
    model = onnx.load(graph.path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="topwork"):
        _ = ExportedGraph(tmp_path / "other.onnx").metadata


def test_copies_share_the_file(graph: ExportedGraph) -> None:
    assert copy.deepcopy(graph) is graph


@pytest.mark.parametrize(
    "change",
    [
        {"columns": None},
        {"columns": []},
        {"columns": ["x"]},
        {"columns": [{"name": "last"}]},
        {"backbone": []},
        {"backbone": {"input": None}},
        {"versions": 1},
        {"float32_until": 3},
    ],
)
def test_damaged_description_is_refused(change: dict[str, Any], graph: ExportedGraph) -> None:
    fields = {**json.loads(graph.metadata.to_text()), **change}
    with pytest.raises(InputError, match="damaged"):
        GraphMetadata.from_text(json.dumps(fields))


@pytest.mark.parametrize("field", ["width", "name", "pool"])
@pytest.mark.parametrize("value", [None, -1, [], 1.5])
def test_damaged_column_is_refused(field: str, value: Any, graph: ExportedGraph) -> None:
    fields = json.loads(graph.metadata.to_text())
    fields["columns"][0][field] = value
    with pytest.raises(InputError, match="damaged"):
        GraphMetadata.from_text(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "[", "1", "[]", "[" * 100_000])
def test_description_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="damaged"):
        GraphMetadata.from_text(text)
