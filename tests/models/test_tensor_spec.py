"""Specifications of tensors: a shape of positive sizes, and nothing that could be changed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from topwork.errors import InputError
from topwork.models.input_spec import InputOverrides
from topwork.models.tensor_spec import TensorSpec


@pytest.mark.parametrize("shape", [[3, 500], (3, 500), np.array([3, 500]), (np.int64(3), np.int32(500))])
def test_shape_of_any_type_makes_the_same_specification(shape: Any) -> None:
    assert TensorSpec(shape) == TensorSpec((3, 500))
    assert json.dumps(TensorSpec(shape).to_json()) == '{"kind": "tensor", "shape": [3, 500]}'


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (-1, 4)])
def test_shape_without_values_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shape="):
        TensorSpec(shape)


def test_there_is_nothing_to_change() -> None:
    spec = TensorSpec((4,))
    assert spec.override(InputOverrides()) is spec
    with pytest.raises(InputError, match=r"mean .*tensor"):
        spec.override(InputOverrides(mean=(0.5, 0.5, 0.5)))


def test_nothing_travels_with_the_graph() -> None:
    assert TensorSpec((4,)).files() == {}
