"""What the engine yields: what became of each item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ..sources.item import Item

if TYPE_CHECKING:
    from numpy.typing import NDArray

Vectors: TypeAlias = "tuple[NDArray[Any], ...]"
"""One vector for each output of the graph, float32."""


@dataclass(frozen=True)
class Result:
    """What became of one item.

    `digest` is the SHA-256 of its content, "" if it could not be read. `vectors`, float32, are None if the item failed,
    for the `reason`. `duplicate_of` is the id of an earlier item with the same content; `truncated` says that a part of
    the item did not fit into the model's input.
    """

    item: Item
    digest: str
    vectors: Vectors | None = None
    reason: str | None = None
    duplicate_of: str | None = None
    truncated: bool = False
