"""The one-line cause of an exception, and the place that a warning names."""

import numpy as np
import pytest
from topwork import TransferClassifier
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


def test_warnings_point_at_the_code_of_the_caller() -> None:
    images = [np.full((8, 8, 3), 20 * number, np.uint8) for number in range(9)]
    classifier = TransferClassifier("topwork:tiny", layer="layer1", head="centroid", cv=0)
    with pytest.warns(UserWarning, match="have no label") as caught:
        classifier.fit(images, ["a", "b", None] * 3)
    assert caught[0].filename == __file__
