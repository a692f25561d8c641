"""The reference of a certificate pools and normalises by itself, and agrees with what graphs do."""

from __future__ import annotations

import numpy as np
import pytest
import topwork
import torch
from topwork.extract.graphs.layer import Layer
from topwork.extract.graphs.pooling import pool_layers
from topwork.extract.graphs.reference_pooling import pool_reference, prepare_reference_inputs
from topwork.extract.graphs.torch.inputs import model_inputs

GENERATOR = np.random.default_rng(0)
MAPS = GENERATOR.normal(size=(3, 5, 6, 8)).astype(np.float32)
TOKENS = GENERATOR.normal(size=(3, 7, 5)).astype(np.float32)
MASK = np.array([[1] * 7, [1] * 3 + [0] * 4, [1] + [0] * 6])
FIRST, LAST = Layer("first", (5, 6, 8), "map", 0), Layer("last", (5, 6, 8), "map", -1)
UNKNOWN, VOLUME = Layer("unknown", (5, 6, 8), "map"), Layer("volume", (5, 6, 4, 2), "map", 0)
PREFIXED, TEXT = Layer("prefixed", (7, 5), "tokens", prefix_tokens=2), Layer("text", (None, 5), "tokens")
MAP_POOLINGS = ("avg", "max", "gem", "avg2x2", "avg4x3", "flatten", "avg+max")
TOKEN_POOLINGS = ("mean", "max", "gem", "cls", "cls+mean")


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    ("layer", "values", "pools"),
    [
        (FIRST, MAPS, MAP_POOLINGS),
        (LAST, MAPS, MAP_POOLINGS),
        (UNKNOWN, MAPS, ("flatten",)),
        (VOLUME, MAPS.reshape(3, 5, 6, 4, 2), ("avg", "max", "gem", "flatten")),
        (PREFIXED, TOKENS, (*TOKEN_POOLINGS, "flatten")),
        (TEXT, TOKENS, (*TOKEN_POOLINGS, "tokens9")),
        (Layer("vector", (5,), "vector"), TOKENS[:, 0], ("none",)),
    ],
    ids=lambda value: value.name if isinstance(value, Layer) else "",
)
def test_reference_agrees_with_the_pooling_of_graphs(
    layer: Layer, values: np.ndarray, pools: tuple[str, ...], normalize: bool
) -> None:
    chosen = [(layer, pool) for pool in pools]
    found = pool_reference([values] * len(pools), chosen, MASK, normalize)
    expected = pool_layers([torch.from_numpy(values)] * len(pools), chosen, torch.from_numpy(MASK), normalize)
    for features, other in zip(found, expected, strict=True):
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, other.numpy(), rtol=2e-5, atol=1e-6)


def test_reference_averages_in_double_precision() -> None:
    values = np.full((1, 1, 1000, 1000), 0.1, np.float32)
    (found,) = pool_reference([values], [(Layer("map", (1, 1000, 1000), "map", 0), "avg")], MASK, False)
    assert found[0, 0] == np.float32(0.1)


def test_padding_is_never_read() -> None:
    values = np.where(MASK[:, :, None] == 1, TOKENS, np.float32("nan"))
    (found,) = pool_reference([values], [(TEXT, "mean")], MASK, False)
    np.testing.assert_allclose(found[1], TOKENS[1, :3].mean(0), rtol=1e-6)


def test_images_are_normalised_as_in_graphs() -> None:
    spec = topwork.ImageSpec(size=(4, 6), resize=4, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    images = GENERATOR.integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    (found,) = prepare_reference_inputs(spec, {"image": images})
    (expected,) = model_inputs(spec, (torch.from_numpy(images),))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6, atol=1e-6)
