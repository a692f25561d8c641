"""ResNet-20 for CIFAR-10 (He et al. 2015, https://arxiv.org/abs/1512.03385, section 4.2), as published."""

from __future__ import annotations

from pathlib import Path

import topwork
import torch
from topwork.models.weights import load_weights
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Residual block with the shortcut without parameters, option A."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.pad = stride, (width - width_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of what the convolutions yield and the input, thinned out and widened."""
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return functional.relu(inner + shortcut)


class ResNet20(nn.Module):
    """The network with its classifier of ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(into, width, stride), Block(width, width, 1), Block(width, width, 1))
            for into, width, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(batch, 10)`` of images ``(batch, 3, 32, 32)``."""
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def resnet20(weights: Path | None, decode: str) -> topwork.Backbone:
    """Return the backbone with the published weights, or without a file with random ones."""
    torch.manual_seed(0)
    module = ResNet20()
    if weights is not None:
        load_weights(module, weights)
    return topwork.load_backbone(module, input_spec=topwork.ImageSpec(size=(32, 32), resize=32), decode=decode)
