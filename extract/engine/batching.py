"""How many items are inferred together, and which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ...models.input_spec import InputSpec
    from ..preprocess.preprocessor import Prepared

Key = TypeVar("Key")

ITEMS_PER_BATCH = 16
TOKENS_PER_BATCH = 1024
"""Tokens of a batch of text, padding included, where no batch size is asked for."""
ITEMS_PER_WINDOW = 1024
"""Approximate number of items of a part of a store, and of a window of text."""


@dataclass(frozen=True)
class BatchSizes:
    """The resolved sizes of a run's batches; of a feature, only its rounding depends on them.

    `tokens` is the largest number of tokens of a batch of text, padding included; None for `batch_size` items of any
    length.
    """

    batch_size: int = ITEMS_PER_BATCH
    tokens: int | None = None

    def limit(self, largest: int | None, runs: int = 1) -> BatchSizes:
        """Return sizes of which `runs` batches at a time have together at most `largest` items; None is no limit."""
        if largest is None or self.batch_size * runs <= largest:
            return self
        batch_size = max(1, largest // runs)
        tokens = None if self.tokens is None else max(1, self.tokens * batch_size // self.batch_size)
        return BatchSizes(batch_size, tokens)

    @property
    def window(self) -> int:
        """Number of items of a window, which consists of whole batches."""
        batches_per_window = max(1, ITEMS_PER_WINDOW // self.batch_size)
        return self.batch_size * batches_per_window

    def count_items_of_part(self, spec: InputSpec) -> int:
        """Return the number of items of a part of a store: a window, or a batch where an item may be hours of sound."""
        return self.batch_size if spec.averages_windows else self.window


DEFAULT_BATCH_SIZES = BatchSizes(tokens=TOKENS_PER_BATCH)
"""The sizes where none are asked for and none were measured."""


def make_batches(items: Mapping[Key, Prepared], sizes: BatchSizes) -> list[list[Key]]:
    """Group items of similar length into batches, shorter items first; items of equal length keep their order."""
    batches: list[list[Key]] = []
    for key in sorted(items, key=lambda key: (items[key].length, items[key].array.shape)):  # the sort is stable
        length = items[key].length
        if sizes.tokens and length:
            limit = max(1, sizes.tokens // length)
        else:
            limit = sizes.batch_size
        is_full = not batches or len(batches[-1]) >= limit
        if is_full or not items[batches[-1][0]].fits_with(items[key]):
            batches.append([])
        batches[-1].append(key)
    return batches
