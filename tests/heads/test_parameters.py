"""Parameters: an error names the estimator, the parameter, its value and what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from topwork.errors import InputError
from topwork.heads.linear.linear_probe import LinearProbe, LinearProbeCV
from topwork.heads.mlp.mlp_head import MLPHead
from topwork.heads.mlp.mlp_regressor import MLPHeadRegressor
from topwork.heads.parameters import check_parameters, select_torch_device

WRONG_VALUES = [
    (LinearProbe, {"C": 0}),
    (LinearProbe, {"C": "1"}),
    (LinearProbe, {"C": True}),
    (LinearProbe, {"tol": 0}),
    (LinearProbe, {"max_iter": 0}),
    (LinearProbe, {"standardize": 1}),
    (LinearProbe, {"class_weight": "even"}),
    (LinearProbe, {"device": 0}),
    (LinearProbeCV, {"Cs": []}),
    (LinearProbeCV, {"Cs": [1, -1]}),
    (LinearProbeCV, {"Cs": 0}),
    (LinearProbeCV, {"Cs": "12"}),
    (LinearProbeCV, {"cv": 1}),
    (LinearProbeCV, {"cv": True}),
    (LinearProbeCV, {"selection": "x"}),
    (MLPHead, {"hidden": ()}),
    (MLPHead, {"hidden": (3, 3, 3)}),
    (MLPHead, {"hidden": 3}),
    (MLPHead, {"dropout": 1}),
    (MLPHead, {"epochs": 0}),
    (MLPHead, {"mixup": -1}),
    (MLPHead, {"validation_fraction": 0.9}),
    (MLPHead, {"class_weight": 2}),
    (MLPHeadRegressor, {"learning_rate": np.inf}),
    (MLPHeadRegressor, {"warm_start": "yes"}),
]


@pytest.mark.parametrize(("kind", "parameters"), WRONG_VALUES)
def test_wrong_value_is_named_with_its_owner(kind: Any, parameters: dict[str, Any]) -> None:
    X = np.arange(40.0).reshape(20, 2)
    with pytest.raises(InputError) as error:
        kind(**parameters).fit(X, np.arange(20) % 2)
    [(name, value)] = parameters.items()
    expected = kind._constraints[name].description
    assert str(error.value) == f"{kind.__name__}: {name} is {value!r}; expected {expected}"


@pytest.mark.parametrize("kind", [LinearProbe, LinearProbeCV, MLPHead, MLPHeadRegressor])
def test_defaults_are_allowed_and_every_parameter_is_checked(kind: Any) -> None:
    check_parameters(kind(), kind._constraints)
    assert set(kind().get_params()) - set(kind._constraints) <= {"random_state"}  # scikit-learn checks it


def test_device_that_cannot_be_used_is_named() -> None:
    assert select_torch_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="tpu9"):
        select_torch_device("tpu9")
