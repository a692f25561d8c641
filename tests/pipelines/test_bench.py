"""What ``auto`` chooses from is measured, and every choice and rejection has a reason."""

from __future__ import annotations

import numpy as np
import pytest
import topwork
from topwork.errors import InputError
from topwork.extract.graphs.fidelity import Fidelity
from topwork.extract.runtime.providers import find_rivals
from topwork.pipelines.bench import bench_backbone, explain_rejection

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


def test_all_that_auto_compares_is_measured_and_one_is_taken() -> None:
    found = bench_backbone("tiny", topwork.load_backbone("topwork:tiny"), IMAGES)
    assert (found["network"], found["items"], found["synthetic"], found["failed"]) == ("tiny", 40, False, [])
    measured = found["measured"]
    in_float32 = [each for each in measured if each["precision"] == "fp32"]
    assert [each["provider"] for each in in_float32] == [provider.name for provider in find_rivals("auto", "fp32")]
    assert max(each["speed"] for each in in_float32) == 1
    assert any(each["precision"].startswith("int8") for each in measured)
    rates = [each["items_per_second"] / each["speed"] for each in measured]
    assert rates == pytest.approx([rates[0]] * len(rates))
    verdicts = [each["verdict"] for each in measured]
    assert verdicts.count("auto takes it") == 1


@pytest.mark.parametrize(
    ("precision", "usual", "worst", "speed", "reason"),
    [
        ("int8", 0.021, 0.03, 3.0, "99 % above 0.02"),
        ("int8", 0.01, 0.051, 3.0, "worst above 0.05"),
        ("bf16", 0.01, 0.02, 1.1, "below 1.15 x"),
        ("bf16", 0.01, 0.02, 1.2, "slower"),
        ("fp32", 0.0, 0.0, 0.9, "slower"),
    ],
)
def test_rejection_states_its_reason(precision: str, usual: float, worst: float, speed: float, reason: str) -> None:
    assert explain_rejection(Fidelity(precision, "cpu", 40, usual, worst, speed)) == reason


def test_fewer_items_than_a_choice_needs_are_refused() -> None:
    with pytest.raises(InputError, match="5 usable items; expected at least 32"):
        bench_backbone("tiny", topwork.load_backbone("topwork:tiny"), IMAGES[:5])
