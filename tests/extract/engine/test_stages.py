"""Stages: which one limits, in relation to what each can use."""

from __future__ import annotations

import pytest
from topwork.extract.engine.stages import Stages


@pytest.mark.parametrize(
    ("stages", "cores", "runs", "expected"),
    [
        (Stages(), 4, 4, ""),
        (Stages(read=1, decode=4, infer=3, write=0.5), 4, 4, "decoding"),
        (Stages(read=5, decode=4, infer=3, write=0.5), 4, 4, "reading"),
        (Stages(read=1, decode=4, infer=3, write=0.5), 4, 1, "inference"),  # one batch at a time for three seconds
        (Stages(read=1, decode=4, infer=3, write=2), 4, 4, "writing"),  # one thread for two seconds
    ],
)
def test_limiting_stage_is_busiest_for_what_it_can_use(stages: Stages, cores: int, runs: int, expected: str) -> None:
    assert stages.limiting(cores, runs) == expected


def test_batch_that_runs_on_several_cores_takes_the_seconds_of_each() -> None:
    stages = Stages(read=1, decode=2, infer=3, write=4)
    assert stages.core_seconds(4, 4) == 6
    assert stages.core_seconds(4, 2) == 9
    assert stages.core_seconds(4, 1) == 15
