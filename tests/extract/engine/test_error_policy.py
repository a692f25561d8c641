"""What a run does about failures."""

from __future__ import annotations

import pytest
from topwork.errors import InputError, StoppedError
from topwork.extract.engine.error_policy import ErrorPolicy


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
