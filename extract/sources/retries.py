"""Limits of connections, which failures of them may pass, and how long to wait before the next attempt."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import IncompleteRead
from typing import TypeVar

from ...errors import InputError, TransientError

Result = TypeVar("Result")
FIRST_WAIT_SECONDS = 0.5
"""Wait before the first retry; it doubles each time."""
TRANSIENT_ERRORS = (TransientError, ConnectionError, TimeoutError, IncompleteRead)


@dataclass(frozen=True)
class DownloadLimits:
    """How long a web server may be silent, in seconds, how slow it may be, and how often a request is repeated."""

    connect_seconds: float = 30.0
    silence_seconds: float = 60.0
    retries: int = 4
    min_rate: float = 100.0
    """Least bytes in a second, on average over `rate_seconds`; 0 for no limit."""
    rate_seconds: float = 300.0

    @property
    def min_bytes(self) -> float:
        """Least bytes within `rate_seconds`."""
        return self.min_rate * self.rate_seconds

    @classmethod
    def from_environment(cls) -> DownloadLimits:
        """Return the limits that the environment sets, by variables whose names begin with ``TOPWORK_``."""
        return cls(
            connect_seconds=read_number("TOPWORK_CONNECT_TIMEOUT", cls.connect_seconds),
            silence_seconds=read_number("TOPWORK_READ_TIMEOUT", cls.silence_seconds),
            retries=int(read_number("TOPWORK_RETRIES", cls.retries, minimum=0)),
            min_rate=read_number("TOPWORK_MIN_RATE", cls.min_rate, minimum=0),
            rate_seconds=read_number("TOPWORK_RATE_SECONDS", cls.rate_seconds),
        )


def read_number(variable: str, default: float, minimum: float = 1e-3) -> float:
    """Return the number in an environment variable; raise an InputError for anything else."""
    text = os.environ.get(variable) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not minimum <= value < float("inf"):
        raise InputError(f"{variable}={text}: expected a number of at least {minimum:g}; unset it for {default:g}")
    return value


def is_transient(error: Exception) -> bool:
    """Return whether a failure may pass: of a connection, or an answer that came too late."""
    aiohttp = sys.modules.get("aiohttp")
    if aiohttp is not None and isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)):
        return True
    return isinstance(error, TRANSIENT_ERRORS)


def repeat(attempt: Callable[[], Result]) -> Result:
    """Return the result of an attempt, which is repeated after failures that may pass; raise the last of them."""
    limits = DownloadLimits.from_environment()
    failures = 0
    while True:
        try:
            return attempt()
        except Exception as error:  # each file system has errors of its own
            failures += 1
            wait = choose_wait(error, failures, limits)
            if not is_transient(error) or failures > limits.retries or wait is None:
                raise
        time.sleep(wait)


def choose_wait(error: Exception, failures: int, limits: DownloadLimits) -> float | None:
    """Return the seconds to wait before the next attempt; None if the server asks for more than a silence."""
    seconds: float | None = getattr(error, "wait_seconds", None)
    if seconds is None:
        wait: float = FIRST_WAIT_SECONDS * 2.0 ** (failures - 1) * random.uniform(0.5, 1.0)
        return min(wait, limits.silence_seconds)
    return None if seconds > limits.silence_seconds else seconds


def parse_retry_after(text: str | None) -> float | None:
    """Return the seconds that a server asks to wait, which it states as such or as a date (RFC 9110, 10.2.3)."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        date: datetime = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    seconds: float = (date - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds)
