"""An exported file: one graph, a free batch size, no traces of the exporter, nothing left behind on failure."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import topwork
from topwork.errors import LayerError, ParityError, TopworkError
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.export import export, package_versions
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.routes import TORCH_ROUTES
from topwork.extract.graphs.torch.cutter import OPSET
from torch import Tensor, nn

SPEC = topwork.ImageSpec(size=(8, 8), resize=8)


@pytest.fixture
def backbone(tiny: topwork.Backbone) -> topwork.Backbone:
    return tiny


@pytest.fixture
def graph(tiny_graph: ExportedGraph) -> ExportedGraph:
    return tiny_graph


def test_graph_takes_decoded_images_and_has_one_output_per_column(graph: ExportedGraph) -> None:
    model = onnx.load(graph.path)
    onnx.checker.check_model(model, full_check=True)
    (image,) = model.graph.input
    dims = image.type.tensor_type.shape.dim
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert dims[0].dim_param
    assert [d.dim_value for d in dims[1:]] == [32, 32, 3]
    assert [o.name for o in model.graph.output] == ["layer2.avg", "layer2.max", "last"]
    assert [(o.domain, o.version) for o in model.opset_import if o.domain == ""] == [("", OPSET)]


def test_file_and_certificate_are_all_there_is(graph: ExportedGraph) -> None:
    assert sorted(f.name for f in graph.path.parent.iterdir()) == [
        "graph.canaries.npz",
        "graph.json",
        "graph.onnx",
        "graph.seal.json",
    ]
    assert [f.name for f in graph.path.parent.parent.iterdir()] == ["graph"]
    assert graph.certificate.versions == package_versions()
    assert graph.certificate.worst.relative_l2 <= graph.certificate.tolerance == 1e-4
    assert json.loads(graph.certificate_path.read_text(encoding="utf-8"))["provider"] == "cpu"


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))


def test_no_paths_and_stack_traces_in_the_bytes(graph: ExportedGraph, tmp_path: Path) -> None:
    own = export(topwork.load_backbone(Own(), input_spec=SPEC), CutRequest(("last",)), tmp_path / "graph")
    folders = [str(Path(__file__).parents[3]), sys.prefix, sys.base_prefix, str(Path.home()), str(graph.path.parent)]
    traces = ["site-packages", ".py", "stack_trace", "File ", "Traceback", "nn_module", "pkg.torch"]
    for content in (graph.path.read_bytes(), own.path.read_bytes()):
        assert [text for text in folders + traces if text.encode() in content] == []
        assert b"layer2" in content or b"conv" in content


def test_failed_parity_leaves_nothing_behind(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid())
    strict = dataclasses.replace(topwork.load_backbone(module, input_spec=SPEC), tolerance=1e-12)
    with pytest.raises(ParityError, match=r"'0'.*1e-12"):
        export(strict, CutRequest(("0",)), tmp_path / "graph", routes=TORCH_ROUTES[:2])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("layer", "pool"), [("absent", "avg"), ("layer1", "absent"), ("layer1", "mean")])
def test_wrong_request_leaves_nothing_behind(layer: str, pool: str, backbone: topwork.Backbone, tmp_path: Path) -> None:
    with pytest.raises(LayerError):
        export(backbone, CutRequest((layer,), (pool,)), tmp_path / "graph")
    assert list(tmp_path.iterdir()) == []


def test_model_that_refuses_its_input_is_a_readable_error(tmp_path: Path) -> None:
    with pytest.raises(TopworkError, match="channels"):
        export(topwork.load_backbone(nn.Conv2d(4, 2, 1), input_spec=SPEC), CutRequest(("last",)), tmp_path / "graph")
    assert list(tmp_path.iterdir()) == []


def test_graph_that_another_process_put_there_first_is_kept(
    graph: ExportedGraph, tiny_request: CutRequest, backbone: topwork.Backbone
) -> None:
    before = graph.path.stat().st_mtime_ns
    again = export(backbone, tiny_request, graph.path.parent)
    assert again == graph
    assert graph.path.stat().st_mtime_ns == before
    assert len(list(graph.path.parent.parent.iterdir())) == 1


def test_every_item_of_a_batch_has_its_own_features(graph: ExportedGraph) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    extractor = topwork.Extractor.from_graph(graph)
    together = extractor.transform(images)
    np.testing.assert_allclose(together[::-1], extractor.transform(images[::-1]), rtol=1e-5, atol=1e-6)
    assert np.linalg.norm(together[0] - together[1]) > 0.1
