"""What a module yields is found in the graph: in-place operations, repeated calls, the classifier's own input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
import torch
from topwork.errors import ExportError, LayerError
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.export import export
from topwork.extract.graphs.torch.trace import find_classifier, find_node, trace
from torch import Tensor, nn

SPEC = topwork.ImageSpec(size=(8, 8), resize=8)


def names_of(module: nn.Module) -> list[str]:
    return [name for name in trace(topwork.load_backbone(module, input_spec=SPEC)).values if name]


class Repeated(nn.Module):
    """A block that runs three times, with an activation that runs twice in it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.act(self.conv(self.act(x)) - 0.1)
        return self.fc(x.mean((2, 3)))


def test_calls_of_a_repeated_module_are_numbered_in_order() -> None:
    names = names_of(Repeated())
    assert names == ["act", "conv", "act@2", "act@3", "conv@2", "act@4", "act@5", "conv@3", "act@6", "fc"]


def test_values_come_in_order_of_execution_inner_modules_first() -> None:
    names = names_of(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Flatten(), nn.Linear(144, 2)))
    assert names == ["0.0", "0.1", "0", "1", "2"]


@pytest.mark.parametrize(
    ("tail", "classifier", "width"),
    [
        ([nn.Flatten(), nn.Linear(36, 2)], "2", 36),
        ([nn.Flatten(), nn.Linear(36, 2), nn.Softmax(1)], "2", 36),
        ([nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 2, 1), nn.Flatten()], "2", 1),
        ([nn.Flatten(), nn.Tanh()], "", 36),
        ([nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 2)], "3", 36),
    ],
    ids=["linear", "softmax", "convolution", "none", "in-place before flatten"],
)
def test_last_is_what_feeds_the_classifier(tail: list[nn.Module], classifier: str, width: int) -> None:
    backbone = topwork.load_backbone(nn.Sequential(nn.Conv2d(3, 1, 3), *tail), input_spec=SPEC)
    traced = trace(backbone)
    assert find_classifier(traced) == classifier
    shape = tuple(find_node(traced, "last").meta["val"].shape[1:])
    assert shape == ((1, 1, 1) if classifier == "2" and width == 1 else (width,))


def test_model_without_own_classifier_ends_with_its_features() -> None:
    backbone = topwork.load_backbone("timm:test_resnet", weights="random", model_args={"num_classes": 0}, size=32)
    traced = trace(backbone)
    assert find_classifier(traced) == ""
    assert find_node(traced, "last") is traced.values[""]


def test_unknown_layer_is_refused_with_near_names(tiny: topwork.Backbone) -> None:
    with pytest.raises(LayerError, match=r"topwork:tiny.*'layr2'.*layer2"):
        find_node(trace(tiny), "layr2")
    with pytest.raises(LayerError, match="''"):
        find_node(trace(tiny), "")


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


def test_model_that_branches_on_values_is_an_export_error() -> None:
    with pytest.raises(ExportError, match="Branching"):
        trace(topwork.load_backbone(Branching(), input_spec=SPEC))


class Attention(nn.Module):
    """A module whose call returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2).transpose(1, 2)  # (batch, 36, 4)
        return self.fc(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Alias(nn.Module):
    """One module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act1, self.fc = nn.Conv2d(3, 4, 3), nn.GELU(), nn.Linear(4, 2)
        self.act2 = self.act1

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.act2(self.act1(self.conv(x)) - 1).mean((2, 3)))


class Keyword(nn.Module):
    """A classifier that is called by keyword, and twice."""

    def __init__(self, times: int, by_keyword: bool) -> None:
        super().__init__()
        self.conv, self.fc, self.times, self.by_keyword = nn.Conv2d(3, 4, 3), nn.Linear(4, 4), times, by_keyword

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).mean((2, 3))
        for _ in range(self.times):
            x = self.fc(input=x) if self.by_keyword else self.fc(x)
        return x


@pytest.mark.parametrize(
    "module",
    [Repeated(), Attention(), Alias(), Keyword(1, True), Keyword(2, False)],
    ids=["repeated", "tuple", "alias", "keyword", "classifier called twice"],
)
def test_every_listed_layer_can_be_exported(module: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(0)
    backbone = topwork.load_backbone(module, input_spec=SPEC)
    names = [layer.name for layer in topwork.layers(backbone)]
    graph = export(backbone, CutRequest(tuple(names), ("flatten",)), tmp_path_factory.mktemp("graph") / "graph")
    assert [column.layer for column in graph.metadata.columns] == names
    assert graph.certificate.worst.relative_l2 < 1e-5


class Answers(nn.Module):
    """Returns what a function makes of two maps, the second of half the size."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.first, self.second, self.answer = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, stride=2), answer

    def forward(self, x: Tensor) -> Any:
        first = self.first(x).relu()
        return self.answer(first, self.second(first).relu())


@pytest.mark.parametrize(
    ("answer", "width"),
    [
        (lambda first, second: [first, second], 6),
        (lambda first, second: {"name": "net", "p2": first, "p3": second}, 4),
        (lambda first, second: {"n": torch.zeros(2), "map": second}, 6),
        (lambda first, second: (None, {"maps": (first, second)}), 6),
        (lambda first, second: first.half(), 4),
        (lambda first, second: first.double(), 4),
    ],
)
def test_last_of_several_outputs(answer: Any, width: int, tmp_path: Path) -> None:
    backbone = topwork.load_backbone(Answers(answer), input_spec=SPEC)
    graph = export(backbone, CutRequest(("last",), ("auto",)), tmp_path / "graph")
    assert [(column.layer, column.width) for column in graph.metadata.columns] == [("last", width)]


def test_single_number_is_no_feature(tmp_path: Path) -> None:
    backbone = topwork.load_backbone(Answers(lambda first, second: second.mean((1, 2, 3))), input_spec=SPEC)
    with pytest.raises(LayerError, match="'last' is one number"):
        export(backbone, CutRequest(("last",), ("auto",)), tmp_path / "graph")
    export(backbone, CutRequest(("second",), ("auto",)), tmp_path / "second")


@pytest.mark.parametrize(
    ("module", "spec", "remedy"),
    [
        (nn.Embedding(9, 4), topwork.TensorSpec((5,)), "dtype='int64'"),
        (nn.Embedding(9, 4), topwork.TensorSpec((5,), dtype="int64", n_values=90), "n_values"),
        (nn.Conv2d(1, 4, 3), SPEC, "3 channels"),
        (nn.Bilinear(5, 5, 4), topwork.TensorSpec((5,)), "one tensor"),
    ],
    ids=["integers", "too many values", "one channel", "two inputs"],
)
def test_input_that_does_not_fit_is_explained(module: nn.Module, spec: Any, remedy: str) -> None:
    with pytest.raises(ExportError, match=remedy):
        trace(topwork.load_backbone(module, input_spec=spec))


class Spectrum(nn.Module):
    """Has an operation that no exporter knows."""

    def forward(self, x: Tensor) -> Tensor:
        maps = x.flatten(2)
        return torch.linalg.eigvalsh(maps @ maps.mT)


def test_failed_export_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    backbone = topwork.load_backbone(Spectrum(), input_spec=SPEC)
    with pytest.raises(ExportError) as caught:
        export(backbone, CutRequest(("last",), ("auto",)), tmp_path / "graph")
    assert "graph(" not in str(caught.value)
    assert capfd.readouterr().out == ""


def test_integers_pass_through_graph_and_store(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3), nn.Tanh()).eval()
    items = list(torch.randint(9, (6, 5), generator=torch.Generator().manual_seed(0)).numpy())
    spec = topwork.TensorSpec((5,), dtype="int64", n_values=9)
    backbone = topwork.load_backbone(module, input_spec=spec)
    store = topwork.FeatureStore.create(tmp_path / "store", topwork.Extractor(backbone))
    topwork.extract_features(items, store)
    with torch.no_grad():
        expected = module(torch.from_numpy(np.stack(items))).numpy()
    np.testing.assert_allclose(store.matrix("last"), expected, atol=1e-5)
