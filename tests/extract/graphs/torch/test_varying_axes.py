"""Channels are found by running a model at other sizes, whichever operation moved them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import topwork
import torch
from topwork.errors import LayerError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs.layer import Layer
from topwork.extract.graphs.pooling import resolve_pooling
from torch import Tensor, nn

SERIES: dict[str, Callable[[Tensor], Tensor]] = {
    "permute": lambda x: x.permute(0, 2, 1),
    "transpose": lambda x: x.transpose(1, 2),
    "swapaxes": lambda x: x.swapaxes(1, -1),
    "mT": lambda x: x.mT,
    "movedim": lambda x: x.movedim(1, 2),
    "einsum": lambda x: torch.einsum("bct->btc", x),
    "unflatten": lambda x: x.unflatten(1, (2, 8)).flatten(1, 2).transpose(1, 2),
    "stay": lambda x: x,
}


class Series(nn.Module):
    """A convolution over time, whose channels are then moved."""

    def __init__(self, move: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 16, kernel_size=5, stride=2, padding=2)
        self.act = nn.Tanh()
        self.move = move

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.move(self.conv(x)))


@pytest.fixture(scope="module")
def series() -> list[Any]:
    return list(np.random.default_rng(0).standard_normal((3, 2, 32)).astype(np.float32))


@pytest.mark.parametrize("name", SERIES)
def test_average_over_time_keeps_the_channels(name: str, series: list[Any]) -> None:
    torch.manual_seed(0)
    model = Series(SERIES[name]).eval()
    backbone = topwork.load_backbone(model, input_spec=topwork.TensorSpec((2, 32)))
    pool = "avg" if name == "stay" else "mean"
    found = Extractor(backbone, layer="act", pool=pool, provider="cpu", precision="fp32").fit_transform(series)
    values = model(torch.from_numpy(np.stack(series)))
    expected = values.mean(2 if name == "stay" else 1).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


class Grid(nn.Module):
    """A map of an image that is not square, with its channels in one of the places; only takes one size."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, kernel_size=3, stride=4)
        self.act = nn.Tanh()
        self.order = order
        self.scale = nn.Parameter(torch.ones(8, 8, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) * self.scale
        return self.act(torch.einsum("bchw,ck->bkhw", x, torch.eye(8)).permute(0, *self.order))


def test_unknown_channels_are_named_by_the_user() -> None:
    torch.manual_seed(0)
    spec = topwork.ImageSpec(size=(32, 16), resize=16, fit="squash", mean=(0,) * 3, std=(1,) * 3)
    images = list(np.random.default_rng(0).integers(0, 256, (2, 32, 16, 3), dtype=np.uint8))
    model = Grid((2, 3, 1)).eval()
    backbone = topwork.load_backbone(model, input_spec=spec)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    values = model(pixels).detach()
    named = Extractor(backbone, layer="act", pool="avg@last", provider="cpu", precision="fp32").fit_transform(images)
    np.testing.assert_allclose(named, values.mean((1, 2)).numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(LayerError, match=r"'unknown'.*@last"):
        resolve_pooling(Layer("unknown", (5, 6, 7), "map"), "avg")
    with pytest.raises(LayerError, match="avg@middle"):
        Extractor(backbone, layer="act", pool="avg@middle").fit_transform(images)
