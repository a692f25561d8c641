"""Options of a run: what is allowed, and what a run does about failures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from topwork.errors import InputError, StoppedError
from topwork.extract.engine.batching import DEFAULT_BATCH_SIZES, BatchSizes
from topwork.extract.engine.run_config import ErrorPolicy, RunConfig
from topwork.progress import Progress, watch_progress


@pytest.mark.parametrize(
    ("text", "percent"), [("record", 100), ("raise", 0), ("limit:5%", 5), ("limit:0.5%", 0.5), ("limit:100%", 100)]
)
def test_policy_is_a_share_that_may_fail(text: str, percent: float) -> None:
    assert ErrorPolicy.parse(text).percent == percent


@pytest.mark.parametrize("text", ["", "ignore", "limit:5", "limit:-1%", "limit:101%", "limit:%", "raise "])
def test_unknown_policy_is_refused_and_the_choices_named(text: str) -> None:
    with pytest.raises(InputError, match=r"'record', 'raise' or 'limit:N%'"):
        ErrorPolicy.parse(text)


@pytest.mark.parametrize(
    ("text", "failed", "total", "stops"),
    [
        ("raise", 1, 1000, True),
        ("record", 1000, 1000, False),
        ("limit:5%", 5, 100, False),
        ("limit:5%", 6, 100, True),
        ("limit:29%", 29, 100, False),
        ("limit:0%", 1, 100, True),
    ],
)
def test_policy_stops_beyond_its_share(text: str, failed: int, total: int, stops: bool) -> None:
    policy = ErrorPolicy.parse(text)
    if not stops:
        return policy.check(failed, total, "a.jpg", "is empty")
    with pytest.raises(StoppedError, match=rf"a\.jpg failed: is empty \({failed} failed.*on_error='record'"):
        policy.check(failed, total, "a.jpg", "is empty")


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"provider": "quantum"}, "openvino"),
        ({"precision": "fp8"}, "bf16"),
        ({"batch_size": 0}, "'auto'"),
        ({"batch_size": 2.5}, "'auto'"),
        ({"batch_size": True}, "'auto'"),
        ({"on_error": "ignore"}, "'limit:N%'"),
        ({"max_pixels": -1}, "positive"),
        ({"workers": 0}, "positive"),
        ({"progress": 3}, "Progress"),
    ],
)
def test_error_names_parameter_owner_and_allowed_values(options: dict[str, Any], allowed: str) -> None:
    ((name, value),) = options.items()
    with pytest.raises(InputError) as error:
        RunConfig(**options, owner="Extractor")
    assert str(error.value).startswith(f"{name}={value!r} of Extractor: expected")
    assert allowed in str(error.value)


def test_changed_copy_is_checked_as_well() -> None:
    assert replace(RunConfig(), provider="cpu").provider == "cpu"
    with pytest.raises(InputError, match="provider='quantum' of RunConfig"):
        replace(RunConfig(), provider="quantum")


def test_batch_sizes_are_those_asked_for_or_the_defaults() -> None:
    assert RunConfig().batch_sizes == DEFAULT_BATCH_SIZES
    assert RunConfig(batch_size=np.int64(3)).batch_sizes == BatchSizes(3)  # type: ignore[arg-type]
    assert [RunConfig(batch_size=size).has_automatic_batches for size in ("auto", 16)] == [True, False]


def test_progress_is_reported_to_its_own_listener_before_that_of_the_context() -> None:
    own, context = list[Progress](), list[Progress]()
    with watch_progress(context.append):
        RunConfig(progress=own.append).report(Progress(1, 2))
        RunConfig().report(Progress(2, 2))
    assert own == [Progress(1, 2)]
    assert context == [Progress(2, 2)]
