"""The network that is trained: the upper part, its pooling, and a linear head."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import LayerError
from ...extract.graphs.cut import CutRequest, choose
from ...extract.graphs.cutting import cutter_for
from ...extract.graphs.pooling import pool_layer
from ...extract.graphs.torch.upper_part import UpperPart, upper_part
from ...heads.parameters import select_torch_device
from ...models.weights import digest_of_state
from .linear_heads import Standardisation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.graphs.layer import Layer
    from ...models.backbone import TorchBackbone
    from .stored_maps import StoredMaps
    from .trained_layers import TrainedLayers

BATCH_SIZE = 64


class TunedNetwork(nn.Module):
    """The layers above a cut, pooled as an extractor does, and a linear head of standardised features."""

    center: Tensor
    scale: Tensor

    def __init__(self, upper: UpperPart, layer: Layer, pool: str, brightness: float) -> None:
        super().__init__()
        self.upper = upper
        self.layer = layer
        self.pool = pool
        self.brightness = brightness
        self.head = nn.Linear(1, 1)
        self.register_buffer("center", torch.zeros(1))
        self.register_buffer("scale", torch.ones(1))

    def set_head(self, weight: NDArray[Any], bias: NDArray[Any], features: Standardisation) -> None:
        """Set the head to weights ``(n_outputs, n_features)`` and biases ``(n_outputs,)`` of features.

        What is trained are the weights of standardised features: a step of the optimiser means the same for each.
        """
        center, scale = features
        self.center, self.scale = torch.from_numpy(center).float(), torch.from_numpy(scale).float()
        n_outputs, n_features = weight.shape
        self.head = nn.Linear(n_features, n_outputs)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(weight * scale))
            self.head.bias.copy_(torch.from_numpy(bias + weight @ center))

    def read_head(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weights ``(n_outputs, n_features)`` and biases of the head, of features as they are."""
        tensors = (self.head.weight, self.head.bias, self.center, self.scale)
        weight, bias, center, scale = (tensor.detach().cpu().double().numpy() for tensor in tensors)
        return weight / scale, bias - (weight / scale) @ center

    @property
    def standardisation(self) -> Standardisation:
        """How the features are standardised that enter the head."""
        return Standardisation(self.center.cpu().double().numpy(), self.scale.cpu().double().numpy())

    def compute_features(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the features ``(n, n_features)`` that enter the head."""
        return pool_layer(self.upper(value, mask).float(), self.layer, self.pool, mask)

    def forward(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the outputs ``(n, n_outputs)``; in training, the brightness of the channels is changed at random."""
        if self.training and self.brightness:
            value = shift_channels(value.float(), self.upper.layer, self.brightness)
        outputs: Tensor = self.head((self.compute_features(value, mask) - self.center) / self.scale)
        return outputs


def make_network(
    backbone: TorchBackbone, layer: str, to: str, *, pool: str, train_batch_norm: bool, brightness: float = 0.0
) -> TunedNetwork:
    """Return the layers of a backbone above a cut, with the pooling that an extractor has; the head has to be set."""
    upper = upper_part(backbone, layer, to, train_batch_norm=train_batch_norm)
    cutter = cutter_for(backbone)
    ((described, resolved),) = choose(cutter, CutRequest((to,), (pool,))).chosen
    return TunedNetwork(upper, described, resolved, brightness)


def compute_features(network: TunedNetwork, maps: StoredMaps) -> NDArray[np.float32]:
    """Return the features of some maps, float32 ``(n, n_features)``, in evaluation mode."""
    network.eval()
    (features,) = apply_to_maps(lambda *inputs: (network.compute_features(*inputs),), maps, network.head.weight.device)
    return features


def compute_frozen(
    backbone: TorchBackbone,
    cut: str,
    layer: Layer,
    pools: Sequence[str],
    maps: StoredMaps,
    *,
    train_batch_norm: bool,
    device: str,
) -> list[NDArray[np.float32]]:
    """Return the features of a layer, float32 ``(n, n_features)`` for each pooling, from the maps of a cut.

    The layer is the cut itself, or lies above it.
    """
    place = select_torch_device(device)
    upper: UpperPart | None = None
    if layer.name != cut:
        upper = upper_part(backbone, cut, layer.name, train_batch_norm=train_batch_norm).to(place)

    def pool_in_each_way(value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        reached = value.float() if upper is None else upper(value, mask)
        return tuple(pool_layer(reached, layer, pool, mask) for pool in pools)

    return apply_to_maps(pool_in_each_way, maps, place)


def apply_to_maps(
    function: Callable[..., tuple[Tensor, ...]], maps: StoredMaps, device: torch.device
) -> list[NDArray[np.float32]]:
    """Return what a function of maps, and of the mask of texts, yields for all of them."""
    parts = []
    with torch.no_grad():
        for positions in np.array_split(np.arange(len(maps)), math.ceil(len(maps) / BATCH_SIZE)):
            inputs = (torch.from_numpy(array).to(device) for array in maps.read(positions))
            parts.append([tensor.cpu().numpy() for tensor in function(*inputs)])
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def read_trained_weights(backbone: TorchBackbone, upper: UpperPart) -> dict[str, NDArray[Any]]:
    """Return copies of the weights of an upper part, by the names that the backbone has for them."""
    own = backbone.module.state_dict()
    return {name: tensor.cpu().numpy().copy() for name, tensor in upper.state_dict().items() if name in own}


def put_layers(layers: TrainedLayers, upper: UpperPart) -> None:
    """Give the weights of layers that were trained to those above a cut; raise a LayerError if some lie below it."""
    if set(layers.weights) - set(upper.state_dict()):
        raise LayerError(
            f"the layers to start from were trained above {layers.from_layer!r}, of which some lie below "
            f"{upper.layer.name!r}; cut at {layers.from_layer!r} or below it"
        )
    tensors = {name: torch.from_numpy(array.copy()) for name, array in layers.weights.items()}
    upper.load_state_dict({**upper.state_dict(), **tensors})


def tune_backbone(backbone: TorchBackbone, weights: Mapping[str, NDArray[Any]]) -> TorchBackbone:
    """Return a backbone with some weights in place of its own."""
    module = copy.deepcopy(backbone.module)
    module.load_state_dict(
        {**module.state_dict(), **{name: torch.from_numpy(array) for name, array in weights.items()}}
    )
    return replace(backbone, module=module, spec=None, weights_digest=digest_of_state(module))


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
