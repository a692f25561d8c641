"""Image input: decoded, resized, cropped; normalised by the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ...errors import DecodeError
from ...models.image_spec import ImageSpec
from ..sources.item import View
from .augment import augment
from .decode import allow_pixels, decode
from .preprocessor import Feed, Prepared, prepare_each
from .resize import to_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

SYNTHETIC_SPOTS_PER_ROW = 12
SYNTHETIC_SCALES = ((1.25, 1.25), (1.25, 2.0), (1.75, 1.25), (0.75, 1.0))
"""Height and width of synthetic images, as multiples of those of the model's input."""


class ImagePreprocessor:
    """Encoded images, uint8 arrays, PIL images, or views of one of these, to pixels ``(height, width, 3)``."""

    items_per_call = 1

    def __init__(self, spec: ImageSpec, max_pixels: int) -> None:
        self.spec = spec
        self.max_pixels = max_pixels
        allow_pixels(max_pixels)

    def prepare(self, content: Any) -> Prepared:
        """Return the pixels that enter the graph; those of a view are augmented."""
        if isinstance(content, View):
            image = decode(content.content, self.spec, self.max_pixels)
            return Prepared(augment(image, self.spec, seed=int(content.digest, 16)))
        image = decode(content, self.spec, self.max_pixels)
        return Prepared(to_pixels(image, self.spec))

    def prepare_all(self, contents: Sequence[Any]) -> list[Prepared | DecodeError]:
        """Return for each item what :meth:`prepare` returns or raises."""
        return prepare_each(self.prepare, contents)

    def collate(self, arrays: Sequence[NDArray[Any]]) -> Feed:
        """Return uint8 ``(batch, height, width, 3)``."""
        return {self.spec.input_name: np.stack(arrays)}

    def synthetic(self, count: int, generator: np.random.Generator) -> list[NDArray[np.uint8]]:
        """Return images of blurred noise, of several sizes and proportions."""
        shape = (count, SYNTHETIC_SPOTS_PER_ROW, SYNTHETIC_SPOTS_PER_ROW, 3)
        images = []
        for number, spots in enumerate(generator.integers(0, 256, shape, dtype=np.uint8)):
            vertical, horizontal = SYNTHETIC_SCALES[number % len(SYNTHETIC_SCALES)]
            height = round(self.spec.size[0] * vertical)
            width = round(self.spec.size[1] * horizontal)
            images.append(np.asarray(Image.fromarray(spots).resize((width, height))))
        return images

    def random_feeds(self, batch: int, generator: np.random.Generator) -> dict[str, Feed]:
        """Return images of random pixels."""
        pixels = generator.integers(0, 256, (batch, *self.spec.size, 3), dtype=np.uint8)
        return {"random": {self.spec.input_name: pixels}}
