"""The model behind ``topwork:tiny``: a small pre-trained residual network for 32 x 32 images."""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS = (16, 40, 80)
DEPTHS = (1, 2, 2)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al. 2015, https://arxiv.org/abs/1512.03385, figure 2)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = shortcut(width_in, width, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, width_in, height, width)`` to ``(batch, width, height / stride, width / stride)``."""
        inner = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(inner + self.shortcut(x))
        return out


def shortcut(width_in: int, width: int, stride: int) -> nn.Module:
    """Return the identity, or a 1 x 1 projection where the shape changes."""
    if width_in == width and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(width_in, width, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(width))


def stage(width_in: int, width: int, depth: int, stride: int) -> nn.Sequential:
    """Return ``depth`` blocks, the first of which may halve the resolution."""
    first = ResidualBlock(width_in, width, stride)
    return nn.Sequential(first, *(ResidualBlock(width, width, 1) for _ in range(depth - 1)))


class TinyResNet(nn.Module):
    """Residual network for 32 x 32 RGB images with three stages (maps of 32, 16 and 8 pixels)."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()
        )
        self.layer1 = stage(WIDTHS[0], WIDTHS[0], depth=DEPTHS[0], stride=1)
        self.layer2 = stage(WIDTHS[0], WIDTHS[1], depth=DEPTHS[1], stride=2)
        self.layer3 = stage(WIDTHS[1], WIDTHS[2], depth=DEPTHS[2], stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(WIDTHS[2], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``(batch, 3, 32, 32)`` to class scores ``(batch, num_classes)``."""
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        scores: Tensor = self.fc(self.pool(x).flatten(1))
        return scores
