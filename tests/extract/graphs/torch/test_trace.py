"""What a module yields is found in the graph: in-place operations, repeated calls, the classifier's own input."""

from __future__ import annotations

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
