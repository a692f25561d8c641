"""The output of a module that returns several things: its features, never a text, a loss or a shallow map."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from topwork.models.module_output import iterate_tensors, select_output

VECTORS = torch.arange(6.0).reshape(2, 3)
LARGE, MIDDLE, SMALL = torch.ones(2, 4, 8, 8), torch.ones(2, 6, 4, 4), torch.ones(2, 8, 2, 2)
TWIN = torch.zeros(2, 5, 8, 8)
LOSS = torch.tensor(0.5)
COUNTS = torch.tensor([3, 4])


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (VECTORS, VECTORS),
        ((VECTORS, VECTORS + 1), VECTORS),
        ([VECTORS], VECTORS),
        ({"first": VECTORS, "second": VECTORS + 1}, VECTORS),
        ({"first": (VECTORS, VECTORS + 1)}, VECTORS),
        ({"name": "resnet", "features": VECTORS}, VECTORS),
        ({"name": "", "features": VECTORS}, VECTORS),
        ((None, VECTORS), VECTORS),
        ((LOSS, VECTORS), VECTORS),
        ({"lengths": COUNTS, "states": VECTORS}, VECTORS),
        ((torch.float32, VECTORS), VECTORS),
        ([LARGE, MIDDLE, SMALL], SMALL),
        ({"0": LARGE, "1": MIDDLE}, MIDDLE),
        ((LARGE, SMALL), SMALL),
        ({"maps": (LARGE, MIDDLE), "hidden": None}, MIDDLE),
        ([LARGE, TWIN], TWIN),
        ({"out": LARGE, "aux": TWIN}, LARGE),
        ((LARGE, TWIN), LARGE),
        ([SMALL, LARGE], SMALL),
        ((VECTORS, SMALL), VECTORS),
        (COUNTS, COUNTS),
        (LOSS, LOSS),
    ],
)
def test_output_of_a_module(output: Any, expected: torch.Tensor) -> None:
    assert select_output(output) is expected


@pytest.mark.parametrize("output", ["resnet", None, {}, [], ({"name": "x"}, "y"), 3, torch.float32])
def test_nothing_without_a_tensor(output: Any) -> None:
    assert select_output(output) is None
    assert list(iterate_tensors(output)) == []
