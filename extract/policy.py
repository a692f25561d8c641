"""What a run does about items that fail: record them, stop at the first, stop beyond a share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InputError, StoppedError

LIMIT = re.compile(r"limit:(\d+(?:\.\d+)?)%")


@dataclass(frozen=True)
class ErrorPolicy:
    """An error policy.

    Parameters
    ----------
    limit : float
        Share of the items that may fail: 0 stops at the first, 1 never stops.

    Examples
    --------
    >>> ErrorPolicy.parse("limit:5%").limit
    0.05
    """

    limit: float

    @classmethod
    def parse(cls, text: str) -> ErrorPolicy:
        """Read ``record``, ``raise`` or ``limit:N%``."""
        match = LIMIT.fullmatch(text)
        if match and float(match[1]) <= 100:
            return cls(float(match[1]) / 100)
        if text not in ("record", "raise"):
            raise InputError(f"on_error={text!r}: expected 'record', 'raise' or 'limit:N%' with N from 0 to 100")
        return cls(1.0 if text == "record" else 0.0)

    def check(self, failed: int, total: int, item_id: str, reason: str) -> None:
        """Stop if too many items of `total` have failed; the last one is named.

        Raises
        ------
        StoppedError
        """
        if failed > self.limit * total:
            bound = (
                "the policy is to stop at the first"
                if self.limit == 0
                else f"at most {self.limit:.1%} of {total} may fail"
            )
            raise StoppedError(
                f"{item_id} failed: {reason} ({failed} failed so far; {bound}). Mend or remove it, or use "
                "on_error='record' (--on-error record) to go on without it."
            )
