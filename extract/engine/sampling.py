"""A few of the user's own items, for the certificate of a graph that is exported for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DecodeError
from ...hardware import available_cores
from ..graphs.certify import BATCH_SIZES
from ..preprocess.by_kind import preprocessor_for
from ..preprocess.decode import MAX_PIXELS
from ..sources.opening import open_source
from ..sources.table import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...models.input_spec import InputSpec
    from ..graphs.export import Samples
    from ..preprocess.preprocessor import Prepared, Preprocessor
    from ..sources.item import Item

SEED = 0
LOOKED_AT = 20
"""Items that are tried until enough are found that can be used."""


def samples_of(X: Any, max_pixels: int = MAX_PIXELS) -> Samples:
    """Return what yields the first usable items of a source, prepared; none if X is None.

    Parameters
    ----------
    X : sequence, source, path or None
        What can be gone through only once is not looked at.
    max_pixels : int
        Larger images are passed over.
    """

    def samples(spec: InputSpec) -> list[NDArray[Any]]:
        if not _can_be_looked_at(X):
            return []
        preprocessor = preprocessor_for(spec, max_pixels)
        tried = (_prepared(item, (preprocessor,)) for item in islice(open_source(X, kind=spec.kind), LOOKED_AT))
        return [found[0].array for found in islice(filter(None, tried), max(BATCH_SIZES))]

    return samples


def drawn(X: Any, specs: Sequence[InputSpec], most: int, max_pixels: int = MAX_PIXELS) -> list[tuple[Prepared, ...]]:
    """Return some usable items of a source, drawn with a seed, prepared in each way; none if X is None.

    Parameters
    ----------
    X : sequence, source, path or None
        What can be gone through only once is not looked at.
    specs : sequence of InputSpec
        An item that cannot be prepared in all of these ways makes room for another.
    most : int
        How many.
    max_pixels : int
        Larger images are passed over.
    """
    if not _can_be_looked_at(X):
        return []
    source, preprocessors = open_source(X, kind=specs[0].kind), [preprocessor_for(spec, max_pixels) for spec in specs]
    order = np.random.default_rng(SEED).permutation(len(source))[: most + max(LOOKED_AT, most // 4)].tolist()
    wanted = set(order)
    found = {position: item for position, item in enumerate(source) if position in wanted}
    chosen = usable((found[position] for position in order[:most]), preprocessors)
    spare = iter(order[most:])
    while len(chosen) < most and (others := list(islice(spare, most - len(chosen)))):
        chosen += usable((found[position] for position in others), preprocessors)
    return chosen


def usable(items: Iterable[Item], preprocessors: Sequence[Preprocessor]) -> list[tuple[Prepared, ...]]:
    """Return those items that can be used, prepared in each way, on all cores."""
    with ThreadPoolExecutor(available_cores()) as pool:
        return list(filter(None, pool.map(lambda item: _prepared(item, preprocessors), items)))


def _can_be_looked_at(X: Any) -> bool:
    return isinstance(X, (str, Path, Table, Sized))


def _prepared(item: Item, preprocessors: Sequence[Preprocessor]) -> tuple[Prepared, ...] | None:
    """Return an item, prepared in each way, or None if it cannot be used."""
    try:
        content = item.read()
        return tuple(preprocessor.prepare(content) for preprocessor in preprocessors)
    except (DecodeError, OSError):
        return None
