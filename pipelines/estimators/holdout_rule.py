"""The rule that selects the rows a refitted head is evaluated on: the same ones each time, whatever is added."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...extract.sources.identifiers import HELD_OUT_SPLITS
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
        if share is not None and not (isinstance(share, Real) and 0 <= share < 1):
            raise InputError(f"held_out={share!r}: expected a share of the items, from 0 (none) to less than 1")
        inherited = None
        if parent is not None:
            inherited = cls(by=parent["by"], share=parent["share"], seed=parent["seed"])
        if share is not None or seed is not None:
            base = inherited if inherited is not None and inherited.by == "id" else cls()
            return cls(
                by="id",
                share=base.share if share is None else float(share),
                seed=base.seed if seed is None else seed,
            )
        if inherited is not None:
            return inherited
        if HELD_OUT_SPLITS & set(splits):
            return cls(by="split", share=0.0)
        return cls()

    def select(self, groups: Sequence[str], splits: Sequence[Any]) -> NDArray[np.bool_]:
        """Return a mask ``(n_rows,)`` of the rows that are held out.

        The group of a row is the id of its item, with which its views are held out.
        """
        if self.by == "split":
            return np.array([split in HELD_OUT_SPLITS for split in splits], bool)
        return are_held_out_by_name(groups, self.share, self.seed)

    def to_json(self) -> dict[str, Any]:
        """Return the rule for a lineage."""
        return asdict(self)
