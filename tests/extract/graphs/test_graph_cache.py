"""Graphs are exported once: the key sees what decides a graph, and nothing else."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
import topwork
from safetensors.torch import load_file, save_file
from topwork.errors import InputError, ParityError
from topwork.extract.graphs import graph_cache
from topwork.extract.graphs.cache_entry import seal_graph
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.export import Samples, export
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.graph_cache import cache_folder, graph_for, request_key
from topwork.extract.graphs.graph_metadata import write_metadata
from topwork.extract.graphs.routes import DEFAULT_TRACING, TORCH_ROUTES
from topwork.extract.graphs.torch.trace import trace
from topwork.identity import COMPUTATION, digest
from topwork.models.backbone import TorchBackbone
from topwork.models.input_spec import InputOverrides
from topwork.models.loading import BackboneSpec
from torch import nn

LAYER1, LAST = CutRequest(("layer1",), ("avg",)), CutRequest(("last",), ("avg",))
TINY = Path(topwork.models.__path__[0]) / "tiny" / "weights.safetensors"


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return one weights file in two folders, and one with another content."""
    first, second, other = (tmp_path / name / "weights.safetensors" for name in ("a", "b", "c"))
    for path in (first, second, other):
        path.parent.mkdir()
        shutil.copy(TINY, path)
    state = load_file(TINY)
    state["fc.bias"][0] += 1
    save_file(state, other)
    return first, second, other


def key(
    layers: tuple[str, ...] = ("last",), pools: tuple[str, ...] = ("avg",), normalize: bool = False, **options: Any
) -> str:
    spec = BackboneSpec(options.pop("name", "topwork:tiny"), **options)
    return request_key(spec, CutRequest(layers, pools, normalize))


def test_key_sees_everything_that_decides_the_graph(copies: tuple[Path, Path, Path]) -> None:
    keys = [
        key(),
        key(layers=("layer1",)),
        key(layers=("layer1", "last")),
        key(layers=("last", "layer1")),
        key(pools=("max",)),
        key(pools=("avg", "max")),
        key(normalize=True),
        key(weights="random"),
        key(weights=copies[0]),
        key(weights=copies[2]),
        key(name="timm:resnet18"),
        key(name="timm:resnet18", model_args={"num_classes": 0}),
        key(preprocessing=InputOverrides(mean=(0.5, 0.5, 0.5))),
        key(preprocessing=InputOverrides(size=64)),
        key(input_spec=topwork.ImageSpec((32, 32), 40)),
        key(input_spec=topwork.TensorSpec((3, 32, 32))),
        key(input_spec=topwork.TextSpec('{"model": {}}', 8)),
        key(input_spec=topwork.TextSpec('{"model": {} }', 8)),
    ]
    assert len(set(keys)) == len(keys)


def test_key_and_fingerprint_do_not_see_the_folder_of_the_weights(copies: tuple[Path, Path, Path]) -> None:
    first, second, other = (BackboneSpec("topwork:tiny", weights=path) for path in copies)
    assert key(weights=copies[0]) == key(weights=str(copies[0])) == key(weights=copies[1])
    exported = []

    def copy_graph(backbone: topwork.Backbone, request: CutRequest, folder: Path, samples: Samples) -> ExportedGraph:
        exported.append(digest(backbone.identity()))
        shutil.copytree(builtin.path.parent, folder)
        seal_graph(ExportedGraph(folder / builtin.path.name), entry=folder.name)
        return ExportedGraph(folder / builtin.path.name)

    builtin = graph_for("topwork:tiny", LAYER1)
    graphs = [graph_for(spec, LAYER1, exporter=copy_graph) for spec in (first, second, other)]
    assert graphs[0].path == graphs[1].path != graphs[2].path
    of_first, of_other = exported  # the second one is that of the first
    identity = {name: value for name, value in builtin.metadata.identity.items() if name != COMPUTATION}
    assert of_first == digest(identity) != of_other


def test_graph_is_exported_only_once() -> None:
    graph = graph_for("topwork:tiny", LAYER1)
    before = graph.path.stat()
    for backbone in ("topwork:tiny", BackboneSpec("topwork:tiny"), topwork.load_backbone("topwork:tiny")):
        again = graph_for(backbone, LAYER1)
        assert again == graph
        assert (again.path.stat().st_ino, again.path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_small_named_backbone_is_loaded_once_for_all_its_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path))
    monkeypatch.setattr(graph_cache, "_kept_backbones", {})
    loaded = []

    def note(backbone: topwork.Backbone, request: CutRequest, folder: Path, samples: Samples) -> ExportedGraph:
        loaded.append(backbone)
        return ExportedGraph(folder / "graph.onnx")

    graph_for("topwork:tiny", LAYER1, exporter=note)
    graph_for(BackboneSpec("topwork:tiny"), LAST, exporter=note)
    graph_for(BackboneSpec("topwork:tiny", "random"), LAST, exporter=note)
    assert loaded[0] is loaded[1] is not loaded[2]
    given = topwork.load_backbone("topwork:tiny")
    assert given not in loaded  # what a caller has may be changed
    graph_for(given, LAST, exporter=note)
    assert loaded[3] is given

    monkeypatch.setattr(graph_cache, "MAX_KEPT_BYTES", 0)
    graph_cache._kept_backbones.clear()
    for request in (LAYER1, LAST):
        graph_for("topwork:tiny", request, exporter=note)
    assert loaded[4] is not loaded[5]


def test_graph_in_the_cache_is_found_without_torch() -> None:
    graph = graph_for("topwork:tiny", LAYER1)
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'timm', 'torchvision']))\n"
        "from topwork.extract.graphs.cut import CutRequest\n"
        "from topwork.extract.graphs.graph_cache import graph_for\n"
        "print(graph_for('topwork:tiny', CutRequest(('layer1',), ('avg',))).path)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(graph.path)


def test_cache_lies_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "graphs"
    monkeypatch.delenv("TOPWORK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "topwork" / "graphs"


def test_graph_that_fails_its_check_is_not_cached(
    tiny: TorchBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path))
    strict = dataclasses.replace(tiny, tolerance=1e-12)
    strict.traces[DEFAULT_TRACING] = trace(tiny)  # so that it is not traced again
    with pytest.raises(ParityError):
        graph_for(strict, LAYER1, exporter=partial(export, routes=TORCH_ROUTES[:1]))
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.parent.name == "graphs"] == []


def test_module_of_the_caller_is_exported_once_per_backbone() -> None:
    exported = []

    def note(backbone: topwork.Backbone, request: CutRequest, folder: Path, samples: Samples) -> ExportedGraph:
        exported.append(backbone)
        return ExportedGraph(folder / "graph.onnx")

    spec = topwork.ImageSpec((8, 8), 8)
    first, second = (topwork.load_backbone(nn.Conv2d(3, n, 1), input_spec=spec) for n in (2, 4))
    graph = graph_for(first, LAST, exporter=note)
    assert graph_for(first, LAST, exporter=note) is graph
    assert graph_for(second, LAST, exporter=note).path != graph.path
    assert exported == [first, second]
    assert cache_folder() not in graph.path.parents


@pytest.mark.parametrize(
    ("layers", "pools", "wanted"),
    [(("layer3",), ("avg",), "layer3"), (("layer2",), ("gem",), "layer2"), (("layer2",), ("avg", "gem"), "gem")],
)
def test_exported_graph_offers_only_its_own_cuts(
    layers: tuple[str, ...], pools: tuple[str, ...], wanted: str, tiny_graph: ExportedGraph
) -> None:
    graph = tiny_graph
    assert graph_for(graph, CutRequest(("last",), ("gem",))) is graph
    with pytest.raises(InputError, match=rf"{wanted}.*layer2 \(avg\), layer2 \(max\), last \(none\)"):
        graph_for(graph, CutRequest(layers, pools))


@pytest.mark.parametrize("normalize", [False, True])
def test_exported_graph_offers_only_its_own_length_of_vectors(
    normalize: bool, tiny_graph: ExportedGraph, tmp_path: Path
) -> None:
    columns = tuple(dataclasses.replace(column, normalize=normalize) for column in tiny_graph.metadata.columns)
    model = onnx.load(tiny_graph.path)
    write_metadata(model, dataclasses.replace(tiny_graph.metadata, columns=columns))
    onnx.save(model, tmp_path / "graph.onnx")
    graph = ExportedGraph(tmp_path / "graph.onnx")
    assert graph_for(graph, CutRequest(("layer2",), ("avg",), normalize)) is graph
    with pytest.raises(InputError, match=f"normalize={normalize}"):
        graph_for(graph, CutRequest(("layer2",), ("avg",), not normalize))


def test_something_else_than_a_backbone_is_refused() -> None:
    with pytest.raises(InputError, match=r"Identity.*load_backbone\(module"):
        graph_for(nn.Identity(), LAST)  # type: ignore[arg-type]
