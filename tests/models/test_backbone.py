"""Backbones: frozen, identified by their weights, called as their inputs state, with a bounded tolerance."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from topwork.errors import ExportError, InputError
from topwork.models.backbone import DEFAULT_TOLERANCE, LARGEST_TOLERANCE, TorchBackbone
from topwork.models.image_spec import ImageSpec
from topwork.models.tensor_spec import TensorSpec
from topwork.models.text_spec import TextSpec
from torch import Tensor, nn

SPEC = TensorSpec((3,))
TEXTS = TextSpec('{"model": {}}', 16, inputs=("ids", "mask"))


def backbone(module: nn.Module, **details: Any) -> TorchBackbone:
    return TorchBackbone.from_module("net", module, details.pop("input_spec", SPEC), **details)


@pytest.mark.parametrize("tolerance", [0.0, 1.1e-3, 2e-3, -1.0, float("nan"), float("inf")])
def test_architecture_cannot_declare_any_tolerance(tolerance: float) -> None:
    with pytest.raises(InputError, match=f"tolerance={tolerance}: .*0.001"):
        backbone(nn.Identity(), tolerance=tolerance)
    with pytest.raises(InputError, match=r"0\.001"):
        dataclasses.replace(backbone(nn.Identity()), tolerance=tolerance)


@pytest.mark.parametrize("tolerance", [1e-12, 1e-4, 1e-3])
def test_tolerance_within_the_bounds_is_kept(tolerance: float) -> None:
    assert backbone(nn.Identity(), tolerance=tolerance).tolerance == tolerance
    assert (backbone(nn.Identity()).tolerance, DEFAULT_TOLERANCE, LARGEST_TOLERANCE) == (1e-4, 1e-4, 1e-3)


def test_module_is_frozen_in_evaluation_mode() -> None:
    frozen = backbone(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)).train()).module
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_weights_decide_the_digest_and_nothing_else() -> None:
    torch.manual_seed(0)
    module, other = nn.Linear(3, 4), nn.Linear(3, 4)
    first, second = backbone(module), backbone(copy.deepcopy(module), classifier="", input_spec=TensorSpec((1, 3)))
    assert first.weights_digest == second.weights_digest != backbone(other).weights_digest
    assert first.identity() == {
        "architecture": "net",
        "arguments": {},
        "weights": first.weights_digest,
        "input": {"kind": "tensor", "shape": (3,)},
    }


class Named(nn.Module):
    """A text model whose arguments are in another order than its inputs."""

    def forward(self, mask: Tensor, ids: Tensor) -> Tensor:
        return ids * 10 + mask


def test_text_is_passed_by_name() -> None:
    ids, mask = torch.tensor([[4, 5]]), torch.tensor([[1, 0]])
    text = backbone(Named(), input_spec=TEXTS)
    assert text.arguments_of((ids, mask)) == ((), {"ids": ids, "mask": mask})
    assert text.run((ids, mask)).tolist() == [[41, 50]]


@pytest.mark.parametrize("spec", [SPEC, ImageSpec((8, 8), 8)])
def test_other_inputs_are_passed_by_position(spec: Any) -> None:
    x = torch.ones(2, 3)
    assert backbone(nn.Identity(), input_spec=spec).arguments_of((x,)) == ((x,), {})


def test_output_without_a_tensor_is_an_error() -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {"name": "resnet"}

    with pytest.raises(ExportError, match=r"net: .*dict"):
        backbone(Named()).run((torch.ones(2, 3),))


def test_copies_share_the_network() -> None:
    first = backbone(nn.Linear(3, 4))
    assert copy.deepcopy(first) is first
    assert repr(first) == f"TorchBackbone('net', weights={first.weights_digest[:12]})"
