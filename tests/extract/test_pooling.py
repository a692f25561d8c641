"""Poolings compute what they say, over the right axes, and are refused where they do not apply."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from topwork.errors import LayerError
from topwork.extract.layers import Layer
from topwork.extract.pooling import pooled, pooling_module, resolve_pooling

MAP = np.random.default_rng(0).normal(size=(2, 5, 6, 8)).astype(np.float32)  # (batch, channels, height, width)
EXPECTED = {
    "avg": MAP.mean((2, 3)),
    "max": MAP.max((2, 3)),
    "avg2x2": MAP.reshape(2, 5, 2, 3, 2, 4).mean((3, 5)).reshape(2, 20),
    "avg3x1": MAP.reshape(2, 5, 3, 2, 8).mean((3, 4)).reshape(2, 15),
    "avg1x1": MAP.mean((2, 3)),
}
FIRST, LAST = Layer("first", (5, 6, 8), "map", 0), Layer("last", (6, 8, 5), "map", -1)
UNKNOWN = Layer("unknown", (6, 8, 5), "map", None)
TOKENS, VECTOR = Layer("tokens", (7, 5), "tokens"), Layer("vector", (5,), "vector")


@pytest.mark.parametrize("pool", EXPECTED)
def test_map_is_pooled_over_its_own_height_and_width(pool: str) -> None:
    first, last = torch.from_numpy(MAP), torch.from_numpy(MAP).permute(0, 2, 3, 1)
    np.testing.assert_allclose(pooling_module(FIRST, pool)(first).numpy(), EXPECTED[pool], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pooling_module(LAST, pool)(last).numpy(), EXPECTED[pool], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [0, -1, None])
def test_flatten_keeps_the_order_in_memory(axis: int | None) -> None:
    layer = Layer("map", MAP.shape[1:], "map", axis)
    np.testing.assert_array_equal(pooled(torch.from_numpy(MAP), "flatten", layer).numpy(), MAP.reshape(2, -1))


SEQUENCE = np.random.default_rng(1).normal(size=(2, 7, 5)).astype(np.float32)  # (batch, tokens, features)
PREFIXED = Layer("prefixed", (7, 5), "tokens", prefix_tokens=2)


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ("cls", SEQUENCE[:, 0]),
        ("mean", SEQUENCE[:, 2:].mean(1)),
        ("max", SEQUENCE[:, 2:].max(1)),
        ("gem", (np.maximum(SEQUENCE[:, 2:], 1e-6) ** 3).mean(1) ** (1 / 3)),
        ("cls+mean", np.hstack([SEQUENCE[:, 0], SEQUENCE[:, 2:].mean(1)])),
    ],
)
def test_tokens_are_pooled_without_those_in_front(pool: str, expected: np.ndarray) -> None:
    found = pooling_module(PREFIXED, pool)(torch.from_numpy(SEQUENCE)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "own", "expected"),
    [
        (PREFIXED, "cls", "cls"),
        (PREFIXED, "mean", "mean"),
        (TOKENS, "cls", "mean"),
        (FIRST, "max", "max"),
        (FIRST, "", "avg"),
    ],
)
def test_auto_is_what_the_network_does_where_that_applies(layer: Layer, own: str, expected: str) -> None:
    assert resolve_pooling(layer, "auto", own) == expected


@pytest.mark.parametrize(
    ("layer", "pool", "expected"),
    [
        (FIRST, "avg", "avg"),
        (FIRST, "avg4x2", "avg4x2"),
        (UNKNOWN, "flatten", "flatten"),
        (TOKENS, "flatten", "flatten"),
        (VECTOR, "max", "none"),
        (VECTOR, "avg2x2", "none"),
    ],
)
def test_pooling_is_resolved_for_the_kind_of_layer(layer: Layer, pool: str, expected: str) -> None:
    assert resolve_pooling(layer, pool) == expected


@pytest.mark.parametrize(
    ("layer", "pool", "message"),
    [
        (FIRST, "median", r"pooling 'median' does not exist; known: auto, avg, avg2x2, cls, .*\(avg2x2 for any grid"),
        (FIRST, "mean", "'mean' does not apply to 'first'"),
        (TOKENS, "cls", "'cls' does not apply to 'tokens'"),
        (TOKENS, "mean+avg", "'avg' does not apply to 'tokens'"),
        (VECTOR, "avg0x2", "pooling 'avg0x2' does not exist"),
        (
            FIRST,
            "none",
            r"'none' does not apply to 'first', which yields map of shape \(5, 6, 8\); applicable: avg, max",
        ),
        (UNKNOWN, "avg", "does not apply to 'unknown'.*applicable: flatten"),
        (UNKNOWN, "avg2x2", "does not apply to 'unknown'"),
        (TOKENS, "avg", "does not apply to 'tokens', which yields tokens"),
        (TOKENS, "avg2x2", "does not apply to 'tokens'"),
    ],
)
def test_pooling_that_does_not_apply_is_refused(layer: Layer, pool: str, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        resolve_pooling(layer, pool)
