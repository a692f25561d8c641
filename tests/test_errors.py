"""The one-line cause of an exception."""

import pytest
from topwork.errors import reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo", "one"),
        ("Constraints violated!\n  - 2 * n must not be 1\n  - another", "Constraints violated! - 2 * n must not be 1"),
        ("Failed:\nlisted below\n-- AveragePool: large\n-- Mul", "Failed: -- AveragePool: large"),
        ("", "ValueError"),
    ],
)
def test_reason_is_one_line_of_the_root_cause(text: str, expected: str) -> None:
    error = RuntimeError("above")
    error.__cause__ = ValueError(text)
    assert reason(error) == expected
