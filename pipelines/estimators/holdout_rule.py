"""The rule that selects the rows a refitted head is evaluated on: the same ones each time, whatever is added."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...extract.sources.path_labels import HELD_OUT_SPLITS, is_held_out
from ...heads.folds import are_held_out_by_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DEFAULT_SHARE = 0.2


@dataclass(frozen=True)
class HoldOutRule:
    """A rule that decides for each item whether it is held out, with the same result each time.

    It holds out by ``"split"``, as the store or the labels name it, or by ``"id"``: a `share` of the items by the hash
    of their ids, others with another `seed`.
    """

    by: str = "id"
    share: float = DEFAULT_SHARE
    seed: int = 0

    @classmethod
    def choose(
        cls, share: float | None, seed: int | None, parent: dict[str, Any] | None, splits: Sequence[Any]
    ) -> HoldOutRule:
        """Return the rule that was asked for; or else the parent's; or else by split, if rows of one are held out.

        If only one of share and seed is given, the other one is the parent's, whose rule is as :meth:`to_json` returns
        it. Raise an InputError if the share is not in [0, 1).
        """
        default = cls()
        if parent is not None:
            default = cls(by=parent["by"], share=parent["share"], seed=parent["seed"])
        elif any(is_held_out(split) for split in splits):
            default = cls(by="split", share=0.0)

        asked: dict[str, Any] = {}
        if share is not None:
            require_share(share)
            asked["share"] = float(share)
        if seed is not None:
            asked["seed"] = seed
        if not asked:
            return default
        base = default if default.by == "id" else cls()
        return replace(base, **asked)

    @property
    def holds_out_rows(self) -> bool:
        """Whether the rule is meant to hold out any row."""
        return self.by == "split" or self.share > 0

    def select(self, groups: Sequence[str], splits: Sequence[Any]) -> NDArray[np.bool_]:
        """Return a mask ``(n_rows,)`` of the rows that are held out.

        The group of a row is the id of its item, with which its views are held out.
        """
        if self.by == "split":
            return np.array([is_held_out(split) for split in splits], bool)
        return are_held_out_by_name(groups, self.share, self.seed)

    def explain_no_rows(self) -> str:
        """Return the reason for which no row is held out."""
        if self.by == "split":
            splits = ", ".join(sorted(HELD_OUT_SPLITS))
            return f"no row has one of the splits {splits}, by which the parent was evaluated"
        return f"held_out={self.share:g} leaves no class a row to learn from, or holds no row out"

    def to_json(self) -> dict[str, Any]:
        """Return the rule for a lineage."""
        return asdict(self)


def require_share(share: float) -> None:
    """Raise an InputError if a share of the items is not in [0, 1)."""
    if not isinstance(share, Real) or not 0 <= share < 1:
        raise InputError(f"held_out={share!r}: expected a share of the items, from 0 (none) to less than 1")
