"""What a preprocessor yields: an item ready to be put into a batch, and a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ...errors import DecodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .preprocessor import Preprocessor

Feed: TypeAlias = "dict[str, NDArray[Any]]"
"""The inputs of a graph, by name; the first axis of each is the batch."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One item, ready to be put into a batch.

    Parameters
    ----------
    array : ndarray
        Without a batch axis.
    length : int
        Items of like length are batched together; 0 where all are alike.
    truncated : bool
        Whether something of the item did not fit in.
    """

    array: NDArray[Any]
    length: int = 0
    truncated: bool = False


def one_by_one(preprocessor: Preprocessor, contents: Sequence[Any]) -> list[Prepared | DecodeError]:
    """Prepare items each by itself, and return for those that fail the error."""
    found: list[Prepared | DecodeError] = []
    for content in contents:
        try:
            found.append(preprocessor.prepare(content))
        except DecodeError as error:
            found.append(error)
    return found
