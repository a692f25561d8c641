"""How many items are inferred at once, and which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ..preprocess.preprocessor import Prepared

Key = TypeVar("Key")

BATCH_SIZE = 16
TOKENS = 1024
"""Of texts, batches of so many tokens with their padding, where no size is asked for."""
WINDOW_ITEMS = 1024
"""About as many items make one part of a store, and one window of texts."""


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; of a feature, only its rounding depends on the batch that it is computed in.

    Parameters
    ----------
    batch_size : int
        Items that are inferred at once.
    workers : int or None
        Threads that read, decode and infer; by default one per core.
    tokens : int or None
        Texts that are inferred at once have together, with their padding, at most so many tokens; None for
        `batch_size` texts of any length.
    """

    batch_size: int = BATCH_SIZE
    workers: int | None = None
    tokens: int | None = None

    @property
    def window(self) -> int:
        """Items of a window of whole batches."""
        return self.batch_size * max(1, WINDOW_ITEMS // self.batch_size)


AUTOMATIC = RunOptions(tokens=TOKENS)
"""Where no batch size is asked for."""


def batches(items: Mapping[Key, Prepared], options: RunOptions) -> list[list[Key]]:
    """Return the keys of items in batches of like length."""
    found: list[list[Key]] = []
    for key in sorted(items, key=lambda key: items[key].length):  # stable
        length = items[key].length
        most = max(1, options.tokens // length) if options.tokens and length else options.batch_size
        if not found or len(found[-1]) >= most:
            found.append([])
        found[-1].append(key)
    return found
