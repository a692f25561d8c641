"""What a probe finds: the features that it compares, what it compares them with, and what it recommends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...heads.transferability import Transferability


@dataclass(frozen=True)
class ProbedFeatures:
    """A row of a probe's table: features of one layer, or of several that are concatenated.

    Parameters
    ----------
    backbone, layer, pool : str
        Names of layers are separated by commas, as ``--layer`` takes them.
    score, low, high : float
        Accuracy or R2 of a linear head on held-out items, and its confidence interval of 95 %.
    n_items : int
        Items that it was judged by; those that are hopeless on a few are not judged by all.
    difference, error : float or None
        The score less that of the best, on the same items, and its standard error; None if it was not judged by all.
    width, bytes : int
        Features of an item, and what they take in a store.
    depth : float or None
        Share of the backbone's computation that is needed; None for a store's columns.
    seconds : float or None
        Estimated time to compute 1,000 items on this machine; None for a store's columns.
    transferability : Transferability or None
        Scores of the features of single layers; None for others.
    """

    backbone: str
    layer: str
    pool: str
    score: float
    low: float
    high: float
    n_items: int
    difference: float | None
    error: float | None
    width: int
    bytes: int
    depth: float | None
    seconds: float | None
    transferability: Transferability | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them, those of `transferability` among them."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "transferability"}
        return fields | ({} if self.transferability is None else self.transferability.to_dict())


@dataclass(frozen=True)
class Baseline:
    """What a head learns without the backbone, or from one that was never trained.

    `gain` is the score of the recommended features less this one, on the same items, and `error` its standard error.
    """

    name: str
    score: float
    low: float
    high: float
    gain: float
    error: float


@dataclass(frozen=True)
class Recommendation:
    """The features to use.

    Parameters
    ----------
    backbone, layer, pool : str
        As for :class:`ProbedFeatures`.
    score : float
        Accuracy or R2 on items that took no part in the choice.
    low, high : float
        Its confidence interval of 95 %.
    width : int
        Features of an item.
    best : str
        The features with the highest score.
    """

    backbone: str
    layer: str
    pool: str
    score: float
    low: float
    high: float
    width: int
    best: str
