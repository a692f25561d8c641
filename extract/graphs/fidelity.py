"""How far features in a lower precision are from those in float32, on the user's own items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.providers import parse_family

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIDELITY_FORMAT = 3
"""Version of how precisions are judged: what an earlier one found is not remembered."""
ITEMS = 256
"""Items that a precision is judged by, if there are as many."""
USUAL, LARGEST = 2e-2, 5e-2
"""Relative L2 error per item that is allowed at the 99th percentile, and at worst."""


@dataclass(frozen=True)
class Fidelity:
    """What a precision costs, and what it gains.

    Parameters
    ----------
    precision, provider : str
    items : int
        Number of items that were compared.
    usual : float
        99th percentile of the items' relative L2 errors; of several columns, the largest error counts.
    worst : float
        Largest relative L2 error.
    speed : float
        Times as fast as float32, inference alone, on this machine.
    kept : int
        How many operations stay in float32; in bf16 1 where the beginning of the network does.
    """

    precision: str
    provider: str
    items: int
    usual: float
    worst: float
    speed: float
    kept: int = 0

    def __str__(self) -> str:
        """Return one line for people."""
        in_float32 = "its beginning" if parse_family(self.precision) == "bf16" else f"{self.kept} operations"
        kept = f" ({in_float32} in float32)" if self.kept else ""
        errors = f"{self.usual:.4f} for 99 % of {self.items} items, {self.worst:.4f} at worst"
        return f"{self.precision}{kept}: error {errors}; {self.speed:.1f} times as fast"

    @property
    def passes(self) -> bool:
        """Whether the features may stand for those in float32."""
        return self.usual <= USUAL and self.worst <= LARGEST


def relative_errors(
    found: Sequence[Sequence[NDArray[np.float32]]], expected: Sequence[Sequence[NDArray[np.float32]]]
) -> list[float]:
    """Return for each item the relative L2 error, of several columns the largest."""
    return [max(map(_relative, ours, theirs)) for ours, theirs in zip(found, expected, strict=True)]


def _relative(found: object, expected: object) -> float:
    ours, theirs = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    length, difference = float(np.linalg.norm(theirs)), float(np.linalg.norm(ours - theirs))
    if not np.isfinite(difference):
        return float("inf")
    return difference / length if length else float(difference > 0)
