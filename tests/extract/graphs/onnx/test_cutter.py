"""An ONNX file is cut where the model it was exported from is cut, and yields the same features."""

from __future__ import annotations

import copy
import functools
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
import torch
from topwork.extract.graphs.cut import CutRequest, Cutter, choose
from topwork.extract.graphs.cutting import cutter_for
from topwork.extract.graphs.export import export
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.layer import Layer
from topwork.extract.preprocess.by_kind import example_feed
from topwork.extract.runtime.session import open_session
from topwork.models.torchvision_operators import ensure_torchvision_operators
from torch import Tensor, nn
from torch.export import Dim

Exporter = Callable[[nn.Module, tuple[Tensor, ...], Path], None]


def dynamo(module: nn.Module, inputs: tuple[Tensor, ...], path: Path, optimize: bool = True) -> None:
    axes = {0: Dim("batch")} if len(inputs) == 1 else {0: Dim("batch"), 1: Dim("tokens", max=32)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            inputs,
            dynamo=True,
            dynamic_shapes=tuple(axes for _ in inputs),
            optimize=optimize,
            verbose=False,
        )
    assert program is not None
    program.save(path)


def dynamo_not_optimized(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    dynamo(module, inputs, path, optimize=False)


def torchscript(module: nn.Module, inputs: tuple[Tensor, ...], path: Path, opset: int = 17, free: bool = True) -> None:
    names = ["x"] if len(inputs) == 1 else ["input_ids", "attention_mask", "token_type_ids"]
    axes = {0: "batch"} if len(inputs) == 1 else {0: "batch", 1: "tokens"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            inputs,
            path,
            dynamo=False,
            opset_version=opset,
            input_names=names,
            output_names=["y"],
            dynamic_axes=dict.fromkeys([*names, "y"], axes) if free else None,
        )


def file_cutter(backbone: topwork.Backbone, exporter: Exporter, path: Path) -> Cutter:
    """Export the module of a backbone to an ONNX file, and return what cuts the file."""
    spec = backbone.input_spec
    exporter(copy.deepcopy(backbone.module), (torch.randn(2, 3, *spec.size),), path)
    return cutter_for(topwork.load_backbone(f"onnx:{path}", input_spec=spec))


@functools.cache
def module_cutter(name: str, **options: Any) -> Cutter:
    """Return what cuts a model that several tests share; it is traced once."""
    return cutter_for(topwork.load_backbone(name, **options))


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built-in model, exported by TorchScript."""
    path = tmp_path_factory.mktemp("tiny") / "net.onnx"
    module = copy.deepcopy(topwork.load_backbone("topwork:tiny").module)
    torchscript(module, (torch.randn(2, 3, 32, 32),), path)
    return path


def features(cutter: Cutter, names: list[str]) -> list[np.ndarray]:
    cut = choose(cutter, CutRequest(tuple(names), ("auto",)))
    return cutter.reference(cut, example_feed(cutter.backbone.input_spec))


def require_same_layers(theirs: Cutter, ours: Cutter, at_least: int) -> None:
    """Compare every layer that has a name in both, in all that is said of it and in its value."""
    expected = {layer.name: layer for layer in theirs.layers()}
    found = {layer.name: layer for layer in ours.layers()}
    assert set(found) <= set(expected)
    assert len(found) >= at_least
    assert [name for name in expected if name in found] == list(found)
    for name, layer in found.items():
        assert described(layer) == described(expected[name])
        assert layer.flops == pytest.approx(expected[name].flops)
        assert layer.parameters == pytest.approx(expected[name].parameters, abs=0.05)
    for name, ours_, theirs_ in zip(found, features(ours, [*found]), features(theirs, [*found]), strict=True):
        np.testing.assert_allclose(ours_, theirs_, rtol=1e-4, atol=1e-5, err_msg=name)
    assert ours.find_own_pooling() == theirs.find_own_pooling()


def described(layer: Layer) -> tuple[Any, ...]:
    return layer.shape, layer.kind, layer.channel_axis, layer.prefix_tokens, layer.single_tensor


@pytest.mark.parametrize(("exporter", "layers"), [(dynamo, 38), (dynamo_not_optimized, 50), (torchscript, 23)])
def test_modules_of_the_built_in_model(exporter: Exporter, layers: int, tmp_path: Path) -> None:
    theirs = module_cutter("topwork:tiny")
    require_same_layers(theirs, file_cutter(theirs.backbone, exporter, tmp_path / "net.onnx"), layers)


@pytest.mark.parametrize(
    ("exporter", "name", "layers"),
    [
        (dynamo, "test_vit", 66),
        (torchscript, "test_vit", 66),
        pytest.param(dynamo, "test_convnext", 91, marks=pytest.mark.coverage),
        pytest.param(torchscript, "test_convnext", 91, marks=pytest.mark.coverage),
        pytest.param(dynamo, "test_resnet", 29, marks=pytest.mark.coverage),
        pytest.param(torchscript, "test_resnet", 29, marks=pytest.mark.coverage),
    ],
)
def test_modules_of_timm_models(exporter: Exporter, name: str, layers: int, tmp_path: Path) -> None:
    arguments = {"zero_init_last": False} if name == "test_resnet" else {}
    backbone = topwork.load_backbone(f"timm:{name}", weights="random", model_args=arguments)
    require_same_layers(cutter_for(backbone), file_cutter(backbone, exporter, tmp_path / "net.onnx"), layers)


@pytest.mark.parametrize("exporter", [dynamo, torchscript])
def test_second_call_of_a_module_has_its_number(exporter: Exporter, tmp_path: Path) -> None:
    theirs = module_cutter("torchvision:resnet18", weights="random", size=64)
    ours = file_cutter(theirs.backbone, exporter, tmp_path / "net.onnx")
    require_same_layers(theirs, ours, 33)
    assert "layer2.0.relu@2" in {layer.name for layer in ours.layers()}


class Interrupted(nn.Module):
    """Convolutions at the end of a module, normalised outside it, and a name that looks like a second call."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 6, 3))
        self.norm, self.act, self.act_1 = nn.BatchNorm2d(6), nn.GELU(), nn.Conv2d(6, 6, 1)
        self.norm.running_mean.add_(0.3)
        self.fc = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.act_1(self.act(self.norm(self.stem(x)))).mean((2, 3)))


@pytest.mark.parametrize("exporter", [dynamo, dynamo_not_optimized, torchscript])
def test_name_is_left_out_where_a_later_module_was_merged(exporter: Exporter, tmp_path: Path) -> None:
    backbone = topwork.load_backbone(Interrupted(), input_spec=topwork.ImageSpec(size=(12, 12), resize=12))
    ours = file_cutter(backbone, exporter, tmp_path / "net.onnx")
    require_same_layers(cutter_for(backbone), ours, 5)
    found = {layer.name for layer in ours.layers()}
    assert {"stem.1", "act", "act_1", "fc", "last"} <= found
    assert ("stem" in found) == (exporter is dynamo_not_optimized)


REQUEST = CutRequest(("layer2", "layer3", "last"), ("avg", "max", "gem", "avg2x2"), normalize=True)


@pytest.fixture(scope="module")
def cut_by_torch(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    return export(topwork.load_backbone("topwork:tiny"), REQUEST, tmp_path_factory.mktemp("torch") / "graph")


@pytest.mark.parametrize("opset", [13, pytest.param(17, marks=pytest.mark.coverage), 20])
def test_graph_equals_the_cut_of_the_original_model(opset: int, cut_by_torch: ExportedGraph, tmp_path: Path) -> None:
    backbone = topwork.load_backbone("topwork:tiny")
    torchscript(copy.deepcopy(backbone.module), (torch.randn(1, 3, 32, 32),), tmp_path / "net.onnx", opset, free=False)
    file = topwork.load_backbone(f"onnx:{tmp_path / 'net.onnx'}", input_spec=backbone.input_spec)
    graph = export(file, REQUEST, tmp_path / "file")
    assert graph.certificate.route == "copied from ONNX"
    assert graph.certificate.worst.relative_l2 < 1e-5
    assert graph.metadata.columns == cut_by_torch.metadata.columns
    images = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    np.testing.assert_allclose(transformed(graph, images), transformed(cut_by_torch, images), atol=1e-5)


def transformed(graph: ExportedGraph, items: Any) -> np.ndarray:
    found: np.ndarray = topwork.Extractor.from_graph(graph).fit_transform(items)
    return found


def test_value_can_be_named_and_what_lies_above_is_gone(tiny_file: Path, tmp_path: Path) -> None:
    cutter = module_cutter("topwork:tiny")
    file = topwork.load_backbone(f"onnx:{tiny_file}", input_spec=cutter.backbone.input_spec)
    name = "/layer1/layer1.0/Add_output_0"
    graph = export(file, CutRequest((name,), ("avg",)), tmp_path / "graph")
    assert [column.name for column in graph.metadata.columns] == [name]
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    cut = choose(cutter, CutRequest(("layer1.0.bn2", "stem"), ("avg",)))
    block, shortcut = cutter.reference(cut, {"image": images})
    np.testing.assert_allclose(open_session(graph.path, "cpu").run({"image": images})[0], block + shortcut, atol=1e-5)
    assert graph.path.stat().st_size < 0.05 * tiny_file.stat().st_size


@pytest.fixture(scope="module")
def bert() -> nn.Module:
    """Return an encoder of two layers that takes three inputs."""
    ensure_torchvision_operators()
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=60, max_position_embeddings=64, initializer_range=0.3, **sizes)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel(config)

        def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
            found: Tensor = self.bert(input_ids, attention_mask, token_type_ids=token_type_ids).last_hidden_state
            return found

    return Encoder().eval()


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{number}" for number in range(56))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    tokenizer.enable_truncation(32)
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("exporter", [dynamo, torchscript])
def test_texts_are_pooled_without_their_padding(exporter: Exporter, bert: nn.Module, tmp_path: Path) -> None:
    ids, mask = torch.randint(4, 60, (2, 7)), torch.ones(2, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    exporter(bert, (ids, mask, torch.zeros_like(ids)), tmp_path / "net.onnx")
    write_tokenizer(tmp_path)
    backbone = topwork.load_backbone(f"onnx:{tmp_path / 'net.onnx'}")
    assert backbone.input_spec.max_length == 32
    named = {layer.name: layer for layer in topwork.layers(backbone)}
    assert named["bert.encoder.layer.0"].shape == (None, 32)
    assert named["last"].is_masked
    names, pools = ("bert.embeddings", "bert.encoder.layer.0", "last"), ("mean", "max", "gem", "cls")
    graph = export(backbone, CutRequest(names, pools), tmp_path / "graph")
    assert {d.case for d in graph.certificate.deviations} == {"random", "padded", "long"}

    found = transformed(graph, ["w1 w2 w3", "w9", "w4 w5 w6 w7 w8 w1"]).reshape(3, 3, 4, 32)
    for row, words in enumerate([[5, 6, 7], [13], [8, 9, 10, 11, 12, 5]]):
        tokens = torch.tensor([[2, *words, 3]])
        with torch.no_grad():
            hidden = bert(tokens, torch.ones_like(tokens), torch.zeros_like(tokens))[0].numpy()
        powers = np.maximum(hidden, 1e-6) ** 3
        expected = np.stack([hidden.mean(0), hidden.max(0), np.cbrt(powers.mean(0)), hidden[0]])
        np.testing.assert_allclose(found[row, 2], expected, rtol=1e-4, atol=1e-5)


def test_cut_below_the_use_of_the_mask_still_takes_it(bert: nn.Module, tmp_path: Path) -> None:
    ids = torch.randint(4, 60, (2, 7))
    torchscript(bert, (ids, torch.ones_like(ids), torch.zeros_like(ids)), tmp_path / "net.onnx")
    write_tokenizer(tmp_path)
    backbone = topwork.load_backbone(f"onnx:{tmp_path / 'net.onnx'}", max_length=8)
    graph = export(backbone, CutRequest(("bert.embeddings",), ("cls",)), tmp_path / "graph")
    assert transformed(graph, ["w1", "w2 " * 50]).shape == (2, 32)


class Series(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv1d(4, 8, 3), nn.ReLU(), nn.Linear(8, 3)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that topwork's graphs use)
        return self.fc(self.act(self.conv(input)).mean(2))


def test_series_are_taken_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Series().eval()
    dynamo(module, (torch.randn(2, 4, 20),), tmp_path / "net.onnx")
    backbone = topwork.load_backbone(f"onnx:{tmp_path / 'net.onnx'}")
    assert backbone.input_spec == topwork.TensorSpec((4, 20))
    layers = [(layer.name, layer.shape, layer.kind) for layer in topwork.layers(backbone)]
    maps = [("conv", (8, 18), "map"), ("act", (8, 18), "map")]
    assert layers == [*maps, ("fc", (3,), "vector"), ("last", (8,), "vector")]
    graph = export(backbone, CutRequest(("act", "fc"), ("avg",)), tmp_path / "graph")
    items = np.random.default_rng(0).normal(size=(5, 4, 20)).astype(np.float32)
    with torch.no_grad():
        hidden = module.act(module.conv(torch.from_numpy(items))).mean(2)
        expected = torch.cat([hidden, module.fc(hidden)], 1).numpy()
    np.testing.assert_allclose(transformed(graph, items), expected, rtol=1e-5, atol=1e-6)


def test_pooling_of_the_backbone_wins_over_that_of_the_file(tiny_file: Path) -> None:
    spec = module_cutter("topwork:tiny").backbone.input_spec
    backbone = topwork.load_backbone(f"onnx:{tiny_file}", input_spec=spec)
    assert cutter_for(backbone).find_own_pooling() == "avg"
    assert cutter_for(replace(backbone, pooling="max")).find_own_pooling() == "max"


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "timm", "torchvision", "transformers", "onnxscript", "skl2onnx"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import json
from pathlib import Path
import topwork
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.export import export
from topwork.models.input_spec import InputOverrides
folder = Path(sys.argv[1])
backbone = topwork.load_backbone(f"onnx:{folder / 'net.onnx'}", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
names = [layer.name for layer in topwork.layers(backbone)]
graph = export(backbone, CutRequest(("layer2", "last"), ("auto",)), folder / "graph")
extractor = topwork.Extractor(topwork.BackboneSpec(
    f"onnx:{folder / 'net.onnx'}", preprocessing=InputOverrides(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
), layer=["layer2", "last"])
import numpy as np
images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
same = np.array_equal(extractor.fit_transform(images), topwork.Extractor.from_graph(graph).fit_transform(images))
print(json.dumps([len(names), graph.certificate.worst.relative_l2, bool(same), "torch" in sys.modules]))
"""


def test_loading_listing_and_cutting_need_no_torch(tiny_file: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_file, tmp_path / "net.onnx")
    result = subprocess.run([sys.executable, "-c", BLOCKED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    layers, error, same, imported = json.loads(result.stdout)
    assert (layers, same, imported) == (23, True, False)
    assert error < 1e-5
