"""Which rows a head is judged by, night after night: always the same, whatever is added."""

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

SHARE = 0.2


@dataclass(frozen=True)
class HoldOut:
    """A rule that says of every item whether it is held out, now and whenever it is asked for again.

    Parameters
    ----------
    by : {"split", "id"}
        By the split that the store or the labels name, or by the item's id.
    share : float
        Of items that are held out by id.
    seed : int
        Another one holds out other items.
    """

    by: str = "id"
    share: float = SHARE
    seed: int = 0

    @classmethod
    def chosen(
        cls, share: float | None, seed: int | None, parent: dict[str, Any] | None, splits: Sequence[Any]
    ) -> HoldOut:
        """Return the rule that was asked for; or else the parent's; or else by split, if rows of one are held out.

        Of share and seed the one that was not asked for is the parent's.

        Raises
        ------
        InputError
            If the share is not one.
        """
        if share is not None and not (isinstance(share, Real) and 0 <= share < 1):
            raise InputError(f"held_out={share!r}: expected a share of the items, from 0 (none) to less than 1")
        known = None if parent is None else cls(**{name: parent[name] for name in ("by", "share", "seed")})
        if share is None and seed is None:
            return known or (cls("split", 0.0) if HELD_OUT_SPLITS & set(splits) else cls())
        base = known if known is not None and known.by == "id" else cls()
        return cls("id", base.share if share is None else float(share), base.seed if seed is None else seed)

    def holds(self, groups: Sequence[str], splits: Sequence[Any]) -> NDArray[np.bool_]:
        """Tell of each row whether it is held out.

        Parameters
        ----------
        groups : sequence of str
            The item of each row; views go with theirs.
        splits : sequence
        """
        if self.by == "split":
            return np.array([split in HELD_OUT_SPLITS for split in splits], bool)
        return are_held_out_by_name(groups, self.share, self.seed)

    def to_json(self) -> dict[str, Any]:
        """Return the rule for a lineage."""
        return asdict(self)
