"""A few of the user's own items, for the certificate of a graph that is exported for them."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DecodeError
from .certify import BATCHES
from .preprocess.decode import MAX_PIXELS
from .preprocess.preprocessor import preprocessor_for
from .sources.opening import open_source
from .sources.table import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..models.input_spec import InputSpec
    from .export import Samples

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
        found: list[NDArray[Any]] = []
        if X is None or not isinstance(X, (str, Path, Table, Sized)):
            return found
        preprocessor = preprocessor_for(spec, max_pixels)
        for _, item in zip(range(LOOKED_AT), open_source(X, kind=spec.kind), strict=False):
            try:
                found.append(preprocessor.prepare(item.read()).array)
            except (DecodeError, OSError):
                continue
            if len(found) == max(BATCHES):
                break
        return found

    return samples
