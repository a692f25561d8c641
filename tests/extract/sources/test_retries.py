"""Limits of connections, and waits between attempts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.client import IncompleteRead

import pytest
from topwork.errors import DecodeError, InputError, TransientError
from topwork.extract.sources import retries
from topwork.extract.sources.retries import DownloadLimits, parse_retry_after, repeat


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.001)


def fail_times(times: int, error: Exception) -> tuple[Callable[[], str], list[int]]:
    """Return a function that fails so many times, and the list that it writes its calls to."""
    calls: list[int] = []

    def attempt() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "there"

    return attempt, calls


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), IncompleteRead(b""), TransientError("busy")])
def test_failures_of_connections_are_outlived(error: Exception) -> None:
    attempt, calls = fail_times(4, error)
    assert repeat(attempt) == "there"
    assert len(calls) == 5
    attempt, calls = fail_times(5, error)
    with pytest.raises(type(error)):
        repeat(attempt)
    assert len(calls) == 5


@pytest.mark.parametrize("error", [FileNotFoundError(), PermissionError(), DecodeError("large"), RuntimeError()])
def test_other_failures_are_not_repeated(error: Exception) -> None:
    attempt, calls = fail_times(1, error)
    with pytest.raises(type(error)):
        repeat(attempt)
    assert len(calls) == 1


def test_wait_longer_than_a_silence_is_not_waited_for() -> None:
    attempt, calls = fail_times(1, TransientError("busy", wait_seconds=3600))
    with pytest.raises(TransientError):
        repeat(attempt)
    assert len(calls) == 1


def test_limits_are_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CONNECT_TIMEOUT", "5")
    monkeypatch.setenv("TOPWORK_READ_TIMEOUT", "")
    monkeypatch.setenv("TOPWORK_RETRIES", "0")
    assert DownloadLimits.from_environment() == DownloadLimits(5.0, 60.0, 0, 100.0, 300.0)
    monkeypatch.setenv("TOPWORK_MIN_RATE", "0")
    monkeypatch.setenv("TOPWORK_RATE_SECONDS", "10")
    assert DownloadLimits.from_environment() == DownloadLimits(5.0, 60.0, 0, 0.0, 10.0)
    for value in ("soon", "-1", "0", "nan", "inf"):
        monkeypatch.setenv("TOPWORK_READ_TIMEOUT", value)
        with pytest.raises(InputError, match=f"TOPWORK_READ_TIMEOUT={value}"):
            DownloadLimits.from_environment()


def test_retry_after_is_seconds_or_a_date() -> None:
    assert parse_retry_after("7") == 7
    assert parse_retry_after(None) is None
    assert parse_retry_after("soon") is None
    later = parse_retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True))
    assert later is not None
    assert 25 < later <= 30
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
