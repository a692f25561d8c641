"""Rows to train on: what the trainer asks of them, and the order in which they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SHUFFLED_BLOCKS = 32
"""So many blocks are read and shuffled together."""


class TrainingRows(Protocol):
    """Inputs of a module, targets and weights, in memory or on disk.

    Targets are codes of classes, int64 ``(n_rows,)``, or float32 ``(n_rows, n_outputs)``; weights are float32
    ``(n_rows,)``, with a mean of 1.
    """

    @property
    def target(self) -> Array:
        """The target of each row."""

    @property
    def weight(self) -> Array:
        """The weight of each row."""

    @property
    def rows_of_block(self) -> int:
        """Rows that are read from the disk together; 1 for rows in memory."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def read(self, rows: Array) -> Sequence[Array]:
        """Return the inputs of the module for some rows."""


def shuffle_rows(n_rows: int, rows_of_block: int, generator: np.random.Generator) -> Array:
    """Return rows in random order; blocks of neighbours stay near one another, so that few are read at a time."""
    if rows_of_block <= 1:
        return generator.permutation(n_rows)
    starts = generator.permutation(np.arange(0, n_rows, rows_of_block))
    shuffled = []
    for first in range(0, len(starts), SHUFFLED_BLOCKS):
        blocks = [
            np.arange(start, min(start + rows_of_block, n_rows)) for start in starts[first : first + SHUFFLED_BLOCKS]
        ]
        shuffled.append(generator.permutation(np.concatenate(blocks)))
    return np.concatenate(shuffled)
