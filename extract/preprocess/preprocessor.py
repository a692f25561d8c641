"""From the content of an item to an array, from arrays to a batch: one preprocessor for each kind of input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import DecodeError
from ...models.image_spec import ImageSpec
from ...models.input_spec import InputSpec
from ...models.text_spec import TextSpec
from .decode import MAX_PIXELS
from .prepared import Feed, Prepared

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXAMPLE_BATCH = 2
SEED = 0


class Preprocessor(Protocol):
    """What reading, batching and checking need to know of a kind of input."""

    lengths_vary: bool
    """Whether items should be batched with others of like length."""
    at_once: int
    """Items that are best prepared together."""

    def prepare(self, content: Any) -> Prepared:
        """Return the array of one item; safe to call from several threads.

        Raises
        ------
        DecodeError
            If the content is damaged or of another kind.
        """

    def prepare_all(self, contents: Sequence[Any]) -> list[Prepared | DecodeError]:
        """Return for each item what :meth:`prepare` returns or raises."""

    def collate(self, arrays: Sequence[NDArray[Any]]) -> Feed:
        """Return the batch of some items' arrays."""

    def synthetic(self, count: int, generator: np.random.Generator) -> list[Any]:
        """Return random items, as users give them."""

    def random_feeds(self, batch: int, generator: np.random.Generator) -> dict[str, Feed]:
        """Return random batches, named by what they test."""


def preprocessor_for(spec: InputSpec, max_pixels: int = MAX_PIXELS) -> Preprocessor:
    """Return the preprocessor for an input specification.

    Parameters
    ----------
    spec : ImageSpec, TextSpec or TensorSpec
    max_pixels : int
        A larger image fails instead of being decoded.
    """
    if isinstance(spec, ImageSpec):
        from .image import ImagePreprocessor

        return ImagePreprocessor(spec, max_pixels)
    if isinstance(spec, TextSpec):
        from .text import TextPreprocessor

        return TextPreprocessor(spec)
    from .tensor import TensorPreprocessor

    return TensorPreprocessor(spec)


def example_feed(spec: InputSpec) -> Feed:
    """Return the batch that networks are traced with; of texts one with padding, or the mask would be traced away."""
    import numpy as np

    feeds = preprocessor_for(spec).random_feeds(EXAMPLE_BATCH, np.random.default_rng(SEED))
    return feeds.get("padded", feeds["random"])
