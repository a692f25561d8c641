"""What is changed at random about maps in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ...extract.graphs.layer import Layer


def shift_channels(value: Tensor, layer: Layer, largest: float) -> Tensor:
    """Return values of a layer, ``(n, *layer.shape)``, each channel of each item shifted by an amount of its own.

    It is at most a share of the range between the channel's lowest and highest value, which are not exceeded: the
    brightness of images, of channels (Bär et al. 2024, https://arxiv.org/abs/2403.10519). Vectors stay as they are.
    """
    if layer.kind == "vector":
        return value
    channel_axis = layer.channel_axis if layer.kind == "map" and layer.channel_axis is not None else -1
    channel_axis = channel_axis % (value.ndim - 1) + 1
    places = [axis for axis in range(1, value.ndim) if axis != channel_axis]
    lowest, highest = value.amin(places, keepdim=True), value.amax(places, keepdim=True)
    share = largest * (2 * torch.rand_like(lowest) - 1)
    return (value + share * (highest - lowest)).clamp(lowest, highest)
