"""The networks that measure a machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import topwork
from topwork.models.benchmark_networks import INPUT_SHAPE, make_benchmark_backbones

WIDTHS = {"convolutions": 256, "depthwise convolutions": 64, "transformer": 384}


@pytest.mark.parametrize("name", WIDTHS)
def test_network_is_exported_and_tells_items_apart(name: str, tmp_path: Path) -> None:
    backbone = make_benchmark_backbones(tmp_path)[name]
    items = np.random.default_rng(0).normal(size=(2, *INPUT_SHAPE)).astype(np.float32)
    features = topwork.Extractor(backbone, precision="fp32").fit_transform(items)
    assert features.shape == (2, WIDTHS[name])
    assert np.isfinite(features).all()
    assert np.linalg.norm(features[0] - features[1]) > 1e-3
