"""Poolings compute what they say, over the right axes, and are refused where they do not apply."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from topwork.errors import LayerError
from topwork.extract.graphs.layer import Layer
from topwork.extract.graphs.pooling import applicable_poolings, pool_layer, pool_layers, resolve_pooling, satisfies

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
    np.testing.assert_allclose(pool_layer(first, FIRST, pool).numpy(), EXPECTED[pool], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pool_layer(last, LAST, pool).numpy(), EXPECTED[pool], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [0, -1, None])
def test_flatten_keeps_the_order_in_memory(axis: int | None) -> None:
    layer = Layer("map", MAP.shape[1:], "map", axis)
    np.testing.assert_array_equal(pool_layer(torch.from_numpy(MAP), layer, "flatten").numpy(), MAP.reshape(2, -1))


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
    found = pool_layer(torch.from_numpy(SEQUENCE), PREFIXED, pool).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


SIGNAL = np.random.default_rng(2).normal(size=(2, 5, 9)).astype(np.float32)  # (batch, channels, time)


@pytest.mark.parametrize(
    ("pool", "expected"),
    [("avg", SIGNAL.mean(2)), ("max", SIGNAL.max(2)), ("avg+max", np.hstack([SIGNAL.mean(2), SIGNAL.max(2)]))],
)
def test_signal_is_pooled_over_its_time(pool: str, expected: np.ndarray) -> None:
    found = pool_layer(torch.from_numpy(SIGNAL), Layer("signal", (5, 9), "map", 0), pool).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


LENGTHS = (7, 3, 1)
MASK = np.array([[1] * n + [0] * (7 - n) for n in LENGTHS])
TEXT, TEXTS = Layer("text", (None, 5), "tokens"), np.random.default_rng(3).normal(size=(3, 7, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ("mean", [row[:n].mean(0) for row, n in zip(TEXTS, LENGTHS, strict=True)]),
        ("max", [row[:n].max(0) for row, n in zip(TEXTS, LENGTHS, strict=True)]),
        ("gem", [(np.maximum(row[:n], 1e-6) ** 3).mean(0) ** (1 / 3) for row, n in zip(TEXTS, LENGTHS, strict=True)]),
        ("cls", TEXTS[:, 0]),
        ("last_token", [row[n - 1] for row, n in zip(TEXTS, LENGTHS, strict=True)]),
        ("cls+mean", [np.r_[row[0], row[:n].mean(0)] for row, n in zip(TEXTS, LENGTHS, strict=True)]),
    ],
)
@pytest.mark.parametrize("padding", [0.0, 1e30, -1e30, float("nan"), float("inf")])
def test_padding_of_texts_never_counts_whatever_stands_there(pool: str, expected: np.ndarray, padding: float) -> None:
    values = np.where(MASK[:, :, None] == 1, TEXTS, np.float32(padding))
    found = pool_layer(torch.from_numpy(values), TEXT, pool, torch.from_numpy(MASK)).numpy()
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-5, atol=1e-6)


def test_poolings_of_a_layer_are_those_that_apply() -> None:
    assert applicable_poolings(TEXT) == ("mean", "max", "gem", "cls", "last_token")
    assert applicable_poolings(TOKENS) == ("mean", "max", "gem", "flatten")
    assert applicable_poolings(PREFIXED) == ("mean", "max", "gem", "cls", "flatten")
    assert applicable_poolings(Layer("signal", (5, 9), "map", 0)) == ("avg", "max", "gem", "flatten")
    assert applicable_poolings(FIRST) == ("avg", "max", "gem", "avg2x2", "flatten")
    assert (applicable_poolings(UNKNOWN), applicable_poolings(VECTOR)) == (("flatten",), ("none",))


@pytest.mark.parametrize("normalize", [False, True])
def test_features_of_a_cut_are_its_pooled_values_in_order(normalize: bool) -> None:
    mask = torch.from_numpy(MASK)
    chosen = ((TEXT, "mean"), (TEXT, "cls"))
    found = pool_layers([torch.from_numpy(TEXTS)] * 2, chosen, mask=mask, normalize=normalize)
    expected = [pool_layer(torch.from_numpy(TEXTS), TEXT, pool, mask).numpy() for pool in ("mean", "cls")]
    for ours, theirs in zip(found, expected, strict=True):
        length = np.linalg.norm(theirs, axis=1, keepdims=True) if normalize else 1
        np.testing.assert_allclose(ours.numpy(), theirs / length, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "own", "expected"),
    [
        (PREFIXED, "cls", "cls"),
        (PREFIXED, "mean", "mean"),
        (TOKENS, "cls", "mean"),
        (FIRST, "max", "max"),
        (FIRST, "", "avg"),
        (TEXT, "", "mean"),
        (TEXT, "cls", "cls"),
        (UNKNOWN, "avg", "flatten"),
        (VECTOR, "avg", "none"),
    ],
)
def test_auto_is_what_the_model_does_where_that_applies(layer: Layer, own: str, expected: str) -> None:
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
        (FIRST, "none", "flatten"),
        (TOKENS, "none", "flatten"),
        (VECTOR, "none", "none"),
        (TEXT, "none", "tokens7"),
        (TEXT, "tokens7", "tokens7"),
    ],
)
def test_pooling_is_resolved_for_the_kind_of_layer(layer: Layer, pool: str, expected: str) -> None:
    assert resolve_pooling(layer, pool, longest=7) == expected


@pytest.mark.parametrize(
    ("layer", "pool", "values"),
    [
        (FIRST, "median", ["'median'", "auto, avg, avg2x2, cls"]),
        (FIRST, "mean", ["'mean'", "'first'"]),
        (TOKENS, "cls", ["'cls'", "'tokens'"]),
        (TOKENS, "mean+avg", ["'avg'", "'tokens'"]),
        (VECTOR, "avg0x2", ["'avg0x2'"]),
        (FIRST, "tokens9", ["'tokens9'", "'first'", "map", "(5, 6, 8)", "avg, max"]),
        (TEXT, "tokens9", ["'tokens9'", "'text'"]),  # not the largest number of tokens
        (UNKNOWN, "avg", ["'unknown'", "flatten"]),
        (UNKNOWN, "avg2x2", ["'unknown'"]),
        (TOKENS, "avg", ["'tokens'"]),
        (TOKENS, "avg2x2", ["'tokens'"]),
        (TEXT, "flatten", ["'text'", "mean, max, gem, cls"]),
        (Layer("signal", (5, 9), "map", 0), "avg2x1", ["'signal'"]),
    ],
)
def test_pooling_that_does_not_apply_is_refused(layer: Layer, pool: str, values: list[str]) -> None:
    with pytest.raises(LayerError) as error:
        resolve_pooling(layer, pool, longest=7)
    assert [value for value in values if value not in str(error.value)] == []


@pytest.mark.parametrize(
    ("pool", "wanted", "expected"),
    [
        ("flatten", "none", True),
        ("tokens64", "none", True),
        ("none", "none", True),
        ("avg", "none", False),
        ("none", "avg", True),
        ("flatten", "avg", False),
        ("avg", "auto", True),
        ("avg", "avg", True),
    ],
)
def test_column_satisfies_a_pooling(pool: str, wanted: str, expected: bool) -> None:
    assert satisfies(pool, wanted) == expected
