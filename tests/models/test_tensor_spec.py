"""Specifications of tensors: a shape of positive sizes, and nothing that could be changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topwork.errors import InputError
from topwork.models.input_kinds import input_spec_from_json
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


@pytest.mark.parametrize("shape", [(3, None), (2.5,), "34", 7])
def test_free_sizes_are_refused(shape: Any) -> None:
    with pytest.raises(InputError, match="shape="):
        TensorSpec(shape)


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_integers_state_their_range(dtype: str) -> None:
    spec = TensorSpec((5,), dtype=dtype, n_values=100)
    assert spec.graph_inputs[0].dtype == dtype
    assert input_spec_from_json(json.loads(json.dumps(spec.to_json())), Path()) == spec
    assert spec.to_json() == {"kind": "tensor", "shape": (5,), "dtype": dtype, "n_values": 100}


@pytest.mark.parametrize(
    "fields", [{"dtype": "int64"}, {"dtype": "int64", "n_values": 0}, {"n_values": 3}, {"dtype": "x"}]
)
def test_integers_without_a_range_and_unknown_types_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"n_values=|dtype="):
        TensorSpec((5,), **fields)
