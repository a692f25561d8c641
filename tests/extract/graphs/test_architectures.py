"""Architectures of every kind are exported at an early, a middle and the last layer, and certified.

``benchmarks/coverage.py`` does the same for all of them; here is a cross-section.
"""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
CROSS_SECTION = {
    "timm": [
        "test_byobnet",
        "test_convnext",
        "test_efficientnet",
        "test_mambaout",
        "test_nfnet",
        "test_resnet",
        "test_vit",
    ],
    "torchvision": ["squeezenet1_1", "mobilenet_v3_small"],
    "hf": [
        *("vit-mae", "dinov2 with registers", "clip, vision", "swin", "resnet"),
        *("bert, with classifier", "mpnet", "deberta v2 (v3)", "modernbert", "t5, encoder"),
    ],
}


@pytest.mark.parametrize(
    ("source", "model"), [(source, model) for source, models in CROSS_SECTION.items() for model in models]
)
def test_export_is_the_same_network(source: str, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from coverage_case import measured

    found = measured(source, model, "topwork", tmp_path)
    assert found["outcome"] == "ok", found
    assert found["error"] <= 1e-4


def test_fused_attention_of_five_axes_takes_another_route(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """NesT's attention is refused by the exporter as it stands."""
    import topwork
    from topwork.extract.graphs.cut import CutRequest
    from topwork.extract.graphs.export import export

    backbone = topwork.load_backbone("timm:nest_tiny", weights="random", model_args={"img_size": 64})
    request = CutRequest(("levels.1.transformer_encoder.0", "last"), ("auto",))
    certificate = export(backbone, request, tmp_path / "graph").certificate
    assert certificate.route == "dynamo, decomposed"
    assert certificate.worst.relative_l2 <= 1e-4
    assert [text.partition(":")[0] for text in certificate.refused] == ["dynamo", "dynamo, not optimised"]
    assert all("4D" in text for text in certificate.refused)
