"""Architectures are exported at an early, a middle and the last layer, and certified.

``benchmarks/coverage.py`` does the same for all of them. The suite has one of each kind; ``make coverage`` also runs
the rest of this cross-section.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import topwork
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.export import export
from torch import Tensor, nn
from torch.nn import functional

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
SUITE = {
    "timm": ["test_convnext", "test_efficientnet", "test_vit"],
    "torchvision": ["squeezenet1_1"],
    "hf": ["dinov2 with registers", "bert, with classifier", "mpnet"],
}
COVERAGE = {
    "timm": ["test_byobnet", "test_mambaout", "test_nfnet", "test_resnet"],
    "torchvision": ["mobilenet_v3_small"],
    "hf": ["vit-mae", "clip, vision", "swin", "resnet", "deberta v2 (v3)", "modernbert", "t5, encoder"],
}


@pytest.mark.parametrize(
    ("source", "model"),
    [
        *((source, model) for source, models in SUITE.items() for model in models),
        *(
            pytest.param(source, model, marks=pytest.mark.coverage)
            for source, models in COVERAGE.items()
            for model in models
        ),
    ],
)
def test_export_equals_the_model(source: str, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from coverage_case import measured

    found = measured(source, model, "topwork", tmp_path)
    assert found["outcome"] == "ok", found
    assert found["error"] <= 1e-4
    assert [result["outcome"] for result in found["providers"].values()] == ["ok", "ok"], found


class AttentionOfFiveAxes(nn.Module):
    """Attention within windows, as in NesT: the dynamo exporter accepts four axes only."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.qkv, self.fc = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 24), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        windows = self.patch(x).unflatten(2, (2, 2)).flatten(3).permute(0, 2, 3, 1)  # (batch, 2, tokens, 8)
        q, k, v = self.qkv(windows).unflatten(3, (3, 2, 4)).permute(3, 0, 4, 1, 2, 5)  # (batch, heads, 2, tokens, 4)
        attended = functional.scaled_dot_product_attention(q, k, v).permute(0, 2, 3, 1, 4).flatten(3)
        return self.fc(attended.mean((1, 2)))


def load_small() -> topwork.Backbone:
    return topwork.load_backbone(AttentionOfFiveAxes(), input_spec=topwork.ImageSpec(size=(8, 8), resize=8))


def load_nest() -> topwork.Backbone:
    return topwork.load_backbone("timm:nest_tiny", weights="random", model_args={"img_size": 64})


@pytest.mark.parametrize(
    ("load", "layer"),
    [
        (load_small, "qkv"),
        pytest.param(load_nest, "levels.1.transformer_encoder.0", marks=pytest.mark.coverage),
    ],
)
def test_attention_of_five_axes_takes_another_route(load: Callable[[], Any], layer: str, tmp_path: Path) -> None:
    certificate = export(load(), CutRequest((layer, "last"), ("auto",)), tmp_path / "graph").certificate
    assert certificate.route == "dynamo, decomposed"
    assert certificate.worst.relative_l2 <= 1e-4
    assert [text.partition(":")[0] for text in certificate.refused] == ["dynamo", "dynamo, not optimised"]
    assert all("4D" in text for text in certificate.refused)
