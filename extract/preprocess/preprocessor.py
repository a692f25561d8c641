"""The protocol of a preprocessor, which turns an item's content into an array, and arrays into a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ...errors import DecodeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...models.input_spec import InputSpec

Feed: TypeAlias = "dict[str, NDArray[Any]]"
"""The inputs of a graph, by name; the first axis of each is the batch."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One item as an array without a batch axis, ready to be put into a batch.

    Items of similar length are batched together; it is 0 where all have the same shape. `truncated` says whether a part
    of the item did not fit into the model's input, and `is_padded` whether it may be longer in a batch.
    """

    array: NDArray[Any]
    length: int = 0
    truncated: bool = False
    is_padded: bool = True

    def fits_with(self, other: Prepared) -> bool:
        """Return whether a batch may hold this item and another one."""
        return self.is_padded or self.array.shape == other.array.shape


def divide_items(items: Sequence[Prepared], size: int) -> Iterator[list[Prepared]]:
    """Yield items in their order, in batches of at most `size` that a graph can take."""
    batch: list[Prepared] = []
    for item in items:
        if batch and (len(batch) == size or not batch[0].fits_with(item)):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


class Preprocessor(Protocol):
    """What reading, batching and checking require of the preprocessor for a kind of input."""

    items_per_call: int
    """Number of items that are best prepared together, by :meth:`prepare_all`."""

    @property
    def spec(self) -> InputSpec:
        """Specification of the input that is prepared."""

    def prepare(self, content: Any) -> Prepared:
        """Return the array of one item; safe to call from several threads.

        Raise a DecodeError if the content is damaged or of another kind.
        """

    def prepare_all(self, contents: Sequence[Any]) -> list[Prepared | DecodeError]:
        """Return for each item what :meth:`prepare` returns or raises."""

    def collate(self, arrays: Sequence[NDArray[Any]]) -> Feed:
        """Return the batch of some items' arrays."""

    def synthetic(self, count: int, generator: np.random.Generator) -> list[Any]:
        """Return random items, in the form in which users give them."""

    def random_feeds(self, batch: int, generator: np.random.Generator) -> dict[str, Feed]:
        """Return random batches, named by what they test."""


def prepare_each(prepare: Callable[[Any], Prepared], contents: Sequence[Any]) -> list[Prepared | DecodeError]:
    """Prepare items one by one, and return the error of each item that fails."""
    results: list[Prepared | DecodeError] = []
    for content in contents:
        try:
            results.append(prepare(content))
        except DecodeError as error:
            results.append(error)
    return results
