"""The ledger: throughput, its share of what is possible, memory, and the stage that limits a run."""

from __future__ import annotations

import json

import pytest
from topwork.extract.engine import ledger as module
from topwork.extract.engine.ledger import Ledger, Stages

STAGES = Stages(read=1, decode=5, infer=6, write=2)


def test_share_of_possible_is_the_cores_work_over_their_time() -> None:
    """Two cores could do 100 items, of 0.06 core-seconds to read and decode and 0.06 to infer, in 6 s; it took 8."""
    ledger = Ledger(computed=100, stages=STAGES, provider="cpu", cores=2, runs=2, seconds=20.0, computing_seconds=8.0)
    possible = ledger.cores / (0.06 + 0.06)
    assert ledger.share_of_possible == pytest.approx((100 / 8) / possible)
    assert ledger.items_per_second == 5.0


def test_batch_on_all_cores_counts_for_each_of_them() -> None:
    ledger = Ledger(stages=STAGES, provider="openvino", cores=4, runs=1, computing_seconds=8.0)
    assert ledger.share_of_possible == pytest.approx((1 + 5 + 6 * 4) / (4 * 8))


@pytest.mark.parametrize("provider", [None, "cuda", "tensorrt"])
def test_share_is_unknown_where_the_processor_does_not_infer(provider: str | None) -> None:
    assert Ledger(stages=STAGES, provider=provider, computing_seconds=8.0).share_of_possible is None


def test_share_is_unknown_before_anything_is_computed() -> None:
    assert Ledger(provider="cpu").share_of_possible is None


def test_largest_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, told = Ledger(), iter([5, 7, 6])
    monkeypatch.setattr(module, "used_memory", lambda: next(told))
    for _ in range(3):
        ledger.note_memory()
    assert ledger.peak_memory == 7


def test_memory_stays_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger()
    monkeypatch.setattr(module, "used_memory", lambda: None)
    ledger.note_memory()
    assert ledger.peak_memory is None


def test_json_has_what_is_derived() -> None:
    found = json.loads(json.dumps(Ledger(computed=4, stages=STAGES, provider="cpu", seconds=2.0).to_json()))
    assert (found["items_per_second"], found["share_of_possible"], found["peak_memory"]) == (2.0, None, None)
    assert found["stages"] == {"read": 1, "decode": 5, "infer": 6, "write": 2}


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
