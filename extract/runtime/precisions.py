"""Names of precisions.

A column's precision says all that its features depend on: a family (``bf16``), and where that does not say it all, a
digest behind it (``int8:3fa94c1b``): of the ranges found on items, and of the operations that stay in float32.
"""

from __future__ import annotations

from ...errors import InputError

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
LOWER = ("int8", "bf16", "fp16")
"""What ``auto`` tries beside float32."""


def require_precision(precision: str, what: str) -> None:
    """Raise an error if there is no such precision."""
    if precision not in PRECISIONS:
        raise InputError(f"precision={precision!r} of {what}: expected one of {', '.join(PRECISIONS)}")


def family(precision: str) -> str:
    """Return the precision without the digest."""
    return precision.partition(":")[0]


def is_found_on_items(precision: str) -> bool:
    """Tell whether a graph in this precision cannot be made without items."""
    return precision == "int8" or precision != family(precision)
