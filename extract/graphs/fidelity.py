"""How far features are from what they should be, and what a lower precision costs on the user's own items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..runtime.providers import parse_family

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIDELITY_FORMAT = 4
"""Version of how precisions are judged; results of an earlier version are not reused."""
MAX_JUDGED_ITEMS = 256
"""Largest number of items that a precision is judged by."""
MAX_P99_ERROR = 2e-2
"""Largest 99th percentile of the items' relative L2 errors that a precision may have."""
MAX_ITEM_ERROR = 5e-2
"""Largest relative L2 error of a single item that a precision may have."""


@dataclass(frozen=True)
class Fidelity:
    """What a precision costs, and what it gains.

    `usual` is the 99th percentile and `worst` the largest of the relative L2 errors of the items that were compared; of
    several columns, the largest error counts. `speed` is the speed-up of inference alone over the fastest provider in
    float32, on this machine. `kept` is the number of operations that stay in float32; in bf16 1 where the beginning of
    the model does.

    Where heads were trained, `score` is that on held-out items (accuracy, or R2), `difference` the score less that in
    float32, and `uncertainty` the standard error of this paired difference, None for a precision that was given up
    before all items were used.
    """

    precision: str
    provider: str
    items: int
    usual: float
    worst: float
    speed: float
    kept: int = 0
    score: float | None = None
    difference: float | None = None
    uncertainty: float | None = None

    def __str__(self) -> str:
        """Return one line for people."""
        kept = ""
        if self.kept:
            in_float32 = "its beginning" if parse_family(self.precision) == "bf16" else f"{self.kept} operations"
            kept = f" ({in_float32} in float32)"
        errors = f"{self.usual:.4f} (99 %), {self.worst:.4f} (worst of {self.items})"
        scored = ""
        if self.score is not None:
            margin = "" if self.uncertainty is None else f" ± {self.uncertainty:.4f}"
            scored = f"; held-out score {self.score:.4f} ({self.difference:+.4f}{margin})"
        return f"{self.precision} on {self.provider}{kept}: error {errors}; {self.speed:.1f} times as fast{scored}"

    @property
    def passes(self) -> bool:
        """Whether the features may replace those in float32."""
        return self.usual <= MAX_P99_ERROR and self.worst <= MAX_ITEM_ERROR


def relative_errors(
    found: Sequence[Sequence[NDArray[np.float32]]], expected: Sequence[Sequence[NDArray[np.float32]]]
) -> list[float]:
    """Return the relative L2 error of each item; of several columns, the largest."""
    errors = []
    for found_vectors, expected_vectors in zip(found, expected, strict=True):
        pairs = zip(found_vectors, expected_vectors, strict=True)
        errors.append(max(relative_error(one, other) for one, other in pairs))
    return errors


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the relative L2 error: the length of the difference over the length of the expected value.

    It is infinite where a value is not finite, and 1 where something other than the expected zeros was found.
    """
    exact = np.asarray(expected, np.float64)
    difference = float(np.linalg.norm(np.asarray(found, np.float64) - exact))
    length = float(np.linalg.norm(exact))
    if not np.isfinite(difference):
        return float("inf")
    if length == 0:
        return float(difference > 0)
    return difference / length
