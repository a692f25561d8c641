"""What a run does about items that fail: record them, stop at the first, stop beyond a share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from ...errors import InputError, StoppedError

LIMIT = re.compile(r"limit:(\d+(?:\.\d+)?)%")


@dataclass(frozen=True)
class ErrorPolicy:
    """An error policy.

    Parameters
    ----------
    percent : Fraction
        Share of the items that may fail, in percent: 0 stops at the first, 100 never stops.

    Examples
    --------
    >>> ErrorPolicy.parse("limit:2.5%").percent
    Fraction(5, 2)
    """

    percent: Fraction

    @classmethod
    def parse(cls, text: str) -> ErrorPolicy:
        """Read ``record``, ``raise`` or ``limit:N%``."""
        match = LIMIT.fullmatch(text) if isinstance(text, str) else None
        if match and Fraction(match[1]) <= 100:
            return cls(Fraction(match[1]))
        if text not in ("record", "raise"):
            raise InputError(f"on_error={text!r}: expected 'record', 'raise' or 'limit:N%' with N from 0 to 100")
        return cls(Fraction(100 if text == "record" else 0))

    def check(self, failed: int, total: int, item_id: str, reason: str) -> None:
        """Stop if too many items of `total` have failed; the last one is named.

        Raises
        ------
        StoppedError
        """
        if 100 * failed > self.percent * total:
            bound = (
                "the policy is to stop at the first"
                if self.percent == 0
                else f"at most {float(self.percent):g}% of {total} may fail"
            )
            raise StoppedError(
                f"{item_id} failed: {reason} ({failed} failed so far; {bound}). Mend or remove it, or use "
                "on_error='record' (--on-error record) to go on without it."
            )
