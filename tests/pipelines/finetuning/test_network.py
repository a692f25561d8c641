"""Channels of maps are shifted, each by an amount of its own, within their own range."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from topwork.extract.graphs.layer import Layer
from topwork.pipelines.finetuning.linear_heads import Standardisation
from topwork.pipelines.finetuning.network import TunedNetwork, shift_channels
from torch import nn


@pytest.mark.parametrize(
    ("layer", "channel_axis"),
    [
        (Layer("map", (5, 8, 8), "map", channel_axis=0), 1),
        (Layer("map", (8, 8, 5), "map", channel_axis=-1), 3),
        (Layer("tokens", (None, 5), "tokens"), 2),
    ],
)
def test_channels_are_shifted_within_their_range(layer: Layer, channel_axis: int) -> None:
    torch.manual_seed(0)
    value = torch.randn(3, *(size or 8 for size in layer.shape))
    by_channel = value.movedim(channel_axis, 1).flatten(2)
    lowest, highest = by_channel.amin(2, keepdim=True), by_channel.amax(2, keepdim=True)
    shifted = shift_channels(value, layer, 0.2).movedim(channel_axis, 1).flatten(2)
    is_inside = (shifted > lowest) & (shifted < highest)
    share = (shifted - by_channel) / (highest - lowest)
    assert (shifted >= lowest).all()
    assert (shifted <= highest).all()
    for item in range(3):
        for channel in range(5):
            found = share[item, channel][is_inside[item, channel]]
            assert found.max() - found.min() < 1e-5  # the same at all places
            assert 0 < found.abs().max() <= 0.2
    assert len(share.median(2).values.round(decimals=4).unique()) > 10  # another one for each channel and item
    torch.testing.assert_close(shift_channels(value, layer, 0.0), value)


def test_vectors_stay_as_they_are() -> None:
    value = torch.randn(3, 5)
    assert shift_channels(value, Layer("vector", (5,), "vector"), 0.5) is value


def test_head_is_of_standardised_features_and_read_as_of_given_ones() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(5, [0.01, 1, 100, 0], (50, 4)).astype(np.float32)  # the last one is constant
    weight, bias = generator.normal(size=(3, 4)), generator.normal(size=3)
    network = TunedNetwork(nn.Identity(), Layer("vector", (4,), "vector"), "none", 0.0)
    network.set_head(weight, bias, Standardisation.of(features))
    deviation = features.std(axis=0, dtype=np.float64)
    deviation[3] = 1
    np.testing.assert_allclose(network.head.weight.detach().numpy(), weight * deviation, rtol=1e-5)
    outputs = network.head((torch.from_numpy(features) - network.center) / network.scale).detach().numpy()
    np.testing.assert_allclose(outputs, features @ weight.T + bias, rtol=1e-3, atol=1e-3)
    for found, expected in zip(network.read_head(), (weight, bias), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
