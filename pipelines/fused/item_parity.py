"""Comparison of a fused graph with the pipeline on real items: those that are given, and photographs of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ...errors import InputError, ParityError
from ...extract.engine.sampling import draw_items, draw_prepared
from ...extract.preprocess.by_kind import preprocessor_for
from ...extract.preprocess.decode import MAX_PIXELS, decode
from ...extract.preprocess.preprocessor import Prepared, divide_items
from ...extract.preprocess.resize import to_pixels
from ...models.image_spec import ImageSpec
from .any_size import PIXELS
from .parity import FittedPipeline, compare_with_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.runtime.session import Session

MAX_ITEMS = 64
"""Number of given items that are compared."""
ITEMS_AT_ONCE = 16
MIN_SHARE_WITHIN_A_LEVEL = 0.999
"""Smallest share of values of a resized image that differ from Pillow's by one level at most."""
MAX_RESIZED_DIFFERENCE = 1e-3
"""Largest difference of a probability between an image resized in the graph and by Pillow."""


class PixelDecoder:
    """Prepares images as a graph of any size takes them: decoded completely and upright, RGB, not resized."""

    def __init__(self, spec: ImageSpec, max_pixels: int = MAX_PIXELS) -> None:
        self.spec = spec.with_exact_decoding()
        self.max_pixels = max_pixels

    def prepare(self, content: Any) -> Prepared:
        """Return the pixels of an image, uint8 ``(height, width, 3)``."""
        return Prepared(np.asarray(decode(content, self.spec, self.max_pixels)))


def draw_images(items: Any, spec: ImageSpec, max_pixels: int) -> list[NDArray[np.uint8]]:
    """Return the decoded pixels of some of the items, if any are given, and of five sample photographs."""
    images = make_sample_images()
    if items is not None:
        drawn = draw_prepared(items, [PixelDecoder(spec, max_pixels)], MAX_ITEMS, spec)
        require_items(drawn)
        images += [prepared.array for (prepared,) in drawn]
    return images


def make_sample_images() -> list[NDArray[np.uint8]]:
    """Return parts of scikit-learn's two photographs: a wide one, a high one, a small one, and strips both ways."""
    from sklearn.datasets import load_sample_image

    china = load_sample_image("china.jpg")
    upright = load_sample_image("flower.jpg").transpose(1, 0, 2)
    parts = [china, upright[:, 50:250], china[:40, :30], china[200:240], upright[:, 200:224]]
    return [np.ascontiguousarray(part) for part in parts]


def require_items(drawn: Sequence[Any]) -> None:
    """Raise an InputError if no item could be drawn."""
    if not drawn:
        raise InputError(
            "no item to compare the file with could be read; expected a source of items of the kind that the backbone "
            "takes, which can be read more than once"
        )


def require_item_parity(pipeline: FittedPipeline, body: Session, fused: Session, items: Any, max_pixels: int) -> int:
    """Compare a fused graph with backbone (`body`) and head on some given items; return how many.

    Raise an InputError if none can be read, and a ParityError if a label or a probability differs.
    """
    spec = pipeline.graph.input_spec
    drawn = draw_items(items, [spec], MAX_ITEMS, max_pixels)
    require_items(drawn)
    preprocessor = preprocessor_for(spec, max_pixels)
    for batch in divide_items([prepared for (prepared,) in drawn], ITEMS_AT_ONCE):
        feed = preprocessor.collate([item.array for item in batch])
        features = np.concatenate(body.run(feed), axis=1)
        compare_with_head(pipeline, features, fused.run(feed))
    return len(drawn)


def require_pixel_parity(resizing: Session, spec: ImageSpec, images: Sequence[NDArray[np.uint8]]) -> None:
    """Compare images resized by a graph with Pillow's; raise a ParityError if they differ by more than a level."""
    for image in images:
        found = resizing.run({PIXELS: image[None]})[0][0]
        expected = to_pixels(Image.fromarray(image), spec.with_exact_decoding())
        is_near = np.abs(found.astype(np.int16) - expected.astype(np.int16)) <= 1
        if is_near.mean() < MIN_SHARE_WITHIN_A_LEVEL:
            raise ParityError(
                f"an image of {image.shape[0]} x {image.shape[1]} pixels that the graph resizes is within one level of "
                f"Pillow's on {is_near.mean():.2%} of the values; expected at least {MIN_SHARE_WITHIN_A_LEVEL:.1%}. "
                "Nothing was written."
            )


def require_resized_parity(
    pipeline: FittedPipeline, body: Session, fused: Session, images: Sequence[NDArray[np.uint8]]
) -> None:
    """Compare a graph of images of any size with Pillow, backbone and head; raise a ParityError if it differs."""
    spec = pipeline.graph.input_spec
    assert isinstance(spec, ImageSpec)
    for image in images:
        pixels = to_pixels(Image.fromarray(image), spec.with_exact_decoding())
        features = np.concatenate(body.run({spec.input_name: pixels[None]}), axis=1)
        outputs = fused.run({PIXELS: image[None]})
        compare_with_head(pipeline, features, outputs, tolerance=MAX_RESIZED_DIFFERENCE)
