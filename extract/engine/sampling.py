"""A few of the user's own items, to check an exported graph and to choose a precision with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...errors import DecodeError
from ...hardware import available_cores
from ..graphs.certify import BATCH_SIZES
from ..preprocess.by_kind import preprocessor_for
from ..preprocess.decode import MAX_PIXELS
from ..sources.opening import open_items
from ..sources.table import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...models.input_spec import InputSpec
    from ..graphs.export import Samples
    from ..preprocess.preprocessor import Prepared
    from ..sources.item import Item

DRAW_SEED = 0
ITEMS_TRIED = 20
"""Items that are tried for the certificate of a graph."""
MIN_SPARE_ITEMS = 20
"""Items that are at least at hand to replace those that cannot be used."""


class CanPrepare(Protocol):
    """A preprocessor, or another way to prepare one item."""

    def prepare(self, content: Any) -> Prepared:
        """Return the array of an item; raise a DecodeError if it cannot be used."""


def make_sampler(X: Any, max_pixels: int = MAX_PIXELS) -> Samples:
    """Return a function that prepares the first usable items of a source for an input specification.

    Larger images than `max_pixels` are skipped. An iterator, which can be consumed only once, is left alone: there are
    no items then, nor if `X` is None.
    """

    def sample(spec: InputSpec) -> list[NDArray[Any]]:
        if not is_reiterable(X):
            return []
        preprocessor = preprocessor_for(spec, max_pixels)
        arrays: list[NDArray[Any]] = []
        for item in islice(open_items(X, spec), ITEMS_TRIED):
            prepared = prepare_in_each_way(item, [preprocessor])
            if prepared is not None:
                arrays.append(prepared[0].array)
            if len(arrays) == max(BATCH_SIZES):
                break
        return arrays

    return sample


def draw_items(
    X: Any, specs: Sequence[InputSpec], count: int, max_pixels: int = MAX_PIXELS
) -> list[tuple[Prepared, ...]]:
    """Draw usable items of a source with a seed, and prepare each for each specification.

    An item that cannot be prepared, such as an image of more than `max_pixels`, is replaced by another one. Fewer than
    `count` items are returned if the source does not have as many, none from an iterator or None.
    """
    preprocessors = [preprocessor_for(spec, max_pixels) for spec in specs]
    return draw_prepared(X, preprocessors, count, specs[0])


def draw_prepared(
    X: Any, preprocessors: Sequence[CanPrepare], count: int, spec: InputSpec
) -> list[tuple[Prepared, ...]]:
    """Draw usable items of a source for a specification as :func:`draw_items`, and prepare each in some ways."""
    if not is_reiterable(X):
        return []
    source = open_items(X, spec)
    # Draw positions, and read the items there in one pass through the source.
    n_spare = max(MIN_SPARE_ITEMS, count // 4)
    positions = np.random.default_rng(DRAW_SEED).permutation(len(source))[: count + n_spare].tolist()
    wanted = set(positions)
    items = {position: item for position, item in enumerate(source) if position in wanted}
    # Prepare as many as are missing; spare items replace those that fail.
    remaining = iter(positions)
    drawn: list[tuple[Prepared, ...]] = []
    while len(drawn) < count:
        next_items = [items[position] for position in islice(remaining, count - len(drawn))]
        if not next_items:
            break
        drawn += prepare_usable(next_items, preprocessors)
    return drawn


def prepare_usable(items: Iterable[Item], preprocessors: Sequence[CanPrepare]) -> list[tuple[Prepared, ...]]:
    """Prepare items in each way, on all cores; items that fail are left out."""
    with ThreadPoolExecutor(available_cores()) as pool:
        prepared = list(pool.map(lambda item: prepare_in_each_way(item, preprocessors), items))
    return [ways for ways in prepared if ways is not None]


def prepare_in_each_way(item: Item, preprocessors: Sequence[CanPrepare]) -> tuple[Prepared, ...] | None:
    """Read an item and prepare it by each preprocessor; None if it cannot be used."""
    try:
        content = item.read()
        return tuple(preprocessor.prepare(content) for preprocessor in preprocessors)
    except (DecodeError, OSError):
        return None


def is_reiterable(X: Any) -> bool:
    """Return whether items can be read without consuming them: a path, a table, or anything with a length."""
    return isinstance(X, (str, Path, Table, Sized))
