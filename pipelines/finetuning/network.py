"""The network that is trained: the upper part, its pooling, and a linear head."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...extract.graphs.cut import CutRequest, choose
from ...extract.graphs.cutting import cutter_for
from ...extract.graphs.pooling import AUTO, pool_layer
from ...extract.graphs.torch.upper_part import UpperPart, upper_part
from ...models.weights import digest_of_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.graphs.layer import Layer
    from ...models.backbone import TorchBackbone
    from .stored_maps import StoredMaps

BATCH_SIZE = 64


class TunedNetwork(nn.Module):
    """The layers above a cut, pooled as an extractor does, and a linear head."""

    def __init__(self, upper: UpperPart, layer: Layer, pool: str, cut_pool: str) -> None:
        super().__init__()
        self.upper = upper
        self.layer = layer
        self.pool = pool
        self.cut_pool = cut_pool
        self.head = nn.Linear(1, 1)

    def set_head(self, weight: NDArray[Any], bias: NDArray[Any]) -> None:
        """Set the head to weights ``(n_outputs, n_features)`` and biases ``(n_outputs,)``."""
        n_outputs, n_features = weight.shape
        self.head = nn.Linear(n_features, n_outputs)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(weight))
            self.head.bias.copy_(torch.from_numpy(bias))

    def compute_features(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the features ``(n, n_features)`` that enter the head."""
        return pool_layer(self.upper(value, mask).float(), self.layer, self.pool, mask)

    def pool_cut(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the features ``(n, n_features)`` that the cut itself has, with the pooling ``auto``."""
        return pool_layer(value.float(), self.upper.layer, self.cut_pool, mask)

    def forward(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the outputs ``(n, n_outputs)``."""
        outputs: Tensor = self.head(self.compute_features(value, mask))
        return outputs


def make_network(backbone: TorchBackbone, layer: str, to: str, *, pool: str, train_batch_norm: bool) -> TunedNetwork:
    """Return the layers of a backbone above a cut, with the pooling that an extractor has; the head has to be set."""
    upper = upper_part(backbone, layer, to, train_batch_norm=train_batch_norm)
    cutter = cutter_for(backbone)
    ((described, resolved),) = choose(cutter, CutRequest((to,), (pool,))).chosen
    ((_, cut_pool),) = choose(cutter, CutRequest((layer,), (AUTO,))).chosen
    return TunedNetwork(upper, described, resolved, cut_pool)


def compute_features(network: TunedNetwork, maps: StoredMaps) -> NDArray[np.float32]:
    """Return the features of some maps, float32 ``(n, n_features)``, in evaluation mode."""
    network.eval()
    return apply_to_maps(network, network.compute_features, maps)


def pool_maps(network: TunedNetwork, maps: StoredMaps) -> NDArray[np.float32]:
    """Return the features of the cut itself, float32 ``(n, n_features)``."""
    return apply_to_maps(network, network.pool_cut, maps)


def apply_to_maps(network: TunedNetwork, function: Callable[..., Tensor], maps: StoredMaps) -> NDArray[np.float32]:
    """Return what a function of maps, and of the mask of texts, yields for all of them, where the network lies."""
    features = []
    device = network.head.weight.device
    with torch.no_grad():
        for positions in np.array_split(np.arange(len(maps)), math.ceil(len(maps) / BATCH_SIZE)):
            inputs = (torch.from_numpy(array).to(device) for array in maps.read(positions))
            features.append(function(*inputs).cpu().numpy())
    return np.concatenate(features)


def tune_backbone(backbone: TorchBackbone, upper: UpperPart) -> TorchBackbone:
    """Return a backbone with the weights of an upper part in place of its own."""
    module = copy.deepcopy(backbone.module)
    own = module.state_dict()
    trained = {name: tensor.cpu() for name, tensor in upper.state_dict().items() if name in own}
    module.load_state_dict({**own, **trained})
    return replace(backbone, module=module, spec=None, weights_digest=digest_of_state(module))
