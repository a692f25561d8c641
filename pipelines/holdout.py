"""Which rows a head is judged by, night after night: always the same, whatever is added or relabelled."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

HELD_SPLITS = frozenset({"dev", "test", "val", "valid", "validation"})
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

        Raises
        ------
        InputError
            If the share is not one.
        """
        if share is not None and not 0 <= share < 1:
            raise InputError(f"held_out={share}: expected a share of the items, from 0 (none) to less than 1")
        if share is None and seed is None:
            if parent is not None:
                return cls(**{name: parent[name] for name in ("by", "share", "seed")})
            if HELD_SPLITS & set(splits):
                return cls("split", 0.0)
        return cls("id", SHARE if share is None else float(share), seed or 0)

    def holds(self, groups: Sequence[str], splits: Sequence[Any], labels: NDArray[Any] | None) -> NDArray[np.bool_]:
        """Tell of each row whether it is held out.

        Parameters
        ----------
        groups : sequence of str
            The item of each row; views go with theirs.
        splits : sequence
        labels : ndarray of shape (n_rows,), optional
            All rows of a class that would have none to learn from are learned from, unless splits decide.
        """
        if self.by == "split":
            return np.array([split in HELD_SPLITS for split in splits], bool)
        held = np.array([_place(group, self.seed) < self.share for group in groups], bool)
        if labels is not None and labels.ndim == 1:
            held &= np.isin(labels, labels[~held])
        return held

    def is_within(self, other: dict[str, Any]) -> bool:
        """Tell whether another rule, from a lineage, holds out all that this one does."""
        same = (other["by"], other["seed"]) == (self.by, self.seed)
        return same and (self.by == "split" or bool(other["share"] >= self.share))

    def to_json(self) -> dict[str, Any]:
        """Return the rule for a lineage."""
        return asdict(self)


def _place(group: str, seed: int) -> float:
    """Return a number from 0 to 1 that is the item's own."""
    name = f"{seed}:{group}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64
