"""Learning rates that are tried."""

from __future__ import annotations

import numpy as np
import pytest
from topwork import FineTunedClassifier
from topwork.pipelines.cli.finetune_command import TrainingOptions
from topwork.pipelines.finetuning.training_parameters import choose_rates


@pytest.mark.parametrize("rate", [1e-3, [1e-3], (1e-3, 1e-3), np.array([1e-3])])
def test_a_single_rate_is_tried_once(rate: object) -> None:
    estimator = FineTunedClassifier(learning_rate=rate)
    estimator.check_parameters()
    assert choose_rates(estimator, can_compare=True) == [1e-3]


def test_rates_are_tried_from_the_lowest() -> None:
    assert choose_rates(FineTunedClassifier(learning_rate=[1e-2, 1e-3]), can_compare=False) == [1e-3, 1e-2]
    assert choose_rates(FineTunedClassifier(), can_compare=True) == [1e-4, 1e-3]
    assert choose_rates(FineTunedClassifier(optimizer="sgd"), can_compare=False) == [1e-3]


@pytest.mark.parametrize(("text", "rates"), [("1e-4", (1e-4,)), ("0.001,0.01", (1e-3, 1e-2)), ("auto", "auto")])
def test_command_line_names_rates_as_they_are(text: str, rates: object) -> None:
    assert TrainingOptions(learning_rate=text).to_parameters()["learning_rate"] == rates
