"""Values are learned by trained layers as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import topwork


def draw_discs(n_images: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return images of a disc, and its radius."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    radii = generator.uniform(2, 12, n_images)
    images = []
    for radius in radii:
        centre = generator.uniform(12, 20, 2)
        disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
        image = generator.integers(0, 60, (32, 32, 3)) + 150 * disc[..., None]
        images.append(image.astype(np.uint8))
    return images, radii


@pytest.mark.parametrize("n_targets", [1, 2])
def test_values_are_predicted_saved_and_exported(n_targets: int, tmp_path: Path) -> None:
    images, radii = draw_discs(160, seed=0)
    y = radii if n_targets == 1 else np.stack([radii, 5 - 3 * radii], axis=1)
    regressor = topwork.FineTunedRegressor(
        "topwork:tiny", from_layer="layer2", epochs=4, precision="fp32", provider="cpu", random_state=0, device="cpu"
    )
    regressor.fit(images[:120], y[:120])
    assert regressor.comparison_.metric == "R2"
    assert regressor.score(images[120:], y[120:]) > 0.8
    expected = regressor.predict(images[120:])
    assert expected.shape == y[120:].shape
    regressor.save(tmp_path / "bundle")
    np.testing.assert_allclose(topwork.load(tmp_path / "bundle").predict(images[120:]), expected, rtol=1e-4, atol=1e-4)
    assert regressor.to_onnx(tmp_path / "model.onnx", items=images[120:]).n_items == 40


@pytest.mark.parametrize("n_items", [60, 160])
def test_training_does_not_spoil_a_good_probe(n_items: int) -> None:
    """Grey levels in noise, which a head on frozen features predicts with large weights."""
    generator = np.random.default_rng(0)
    levels = generator.uniform(60, 200, n_items + 100)
    images = [generator.normal(level, 30, (32, 32, 3)).clip(0, 255).astype(np.uint8) for level in levels]
    options = {"precision": "fp32", "provider": "cpu"}
    frozen = topwork.TransferRegressor("topwork:tiny", **options).fit(images[:n_items], levels[:n_items])
    tuned = topwork.FineTunedRegressor("topwork:tiny", from_layer="layer2", epochs=4, random_state=0, **options)
    tuned.fit(images[:n_items], levels[:n_items])
    gain = tuned.score(images[n_items:], levels[n_items:]) - frozen.score(images[n_items:], levels[n_items:])
    assert gain > -0.05
