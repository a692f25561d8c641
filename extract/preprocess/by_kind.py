"""The preprocessor of each kind of input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...models.input_spec import InputSpec
from .audio import AudioPreprocessor
from .decode import MAX_PIXELS
from .image import ImagePreprocessor
from .preprocessor import Feed, Preprocessor
from .tensor import TensorPreprocessor
from .text import TextPreprocessor

EXAMPLE_BATCH = 2
EXAMPLE_SEED = 0

PREPROCESSORS: dict[str, Callable[[Any, int], Preprocessor]] = {
    "image": ImagePreprocessor,
    "text": lambda spec, max_pixels: TextPreprocessor(spec),
    "audio": lambda spec, max_pixels: AudioPreprocessor(spec),
    "tensor": lambda spec, max_pixels: TensorPreprocessor(spec),
}
"""Constructor of each kind of preprocessor, called with a specification and the largest number of pixels."""


def preprocessor_for(spec: InputSpec, max_pixels: int = MAX_PIXELS) -> Preprocessor:
    """Return the preprocessor for an input specification; an image of more than `max_pixels` fails undecoded."""
    return PREPROCESSORS[spec.kind](spec, max_pixels)


def example_feed(spec: InputSpec) -> Feed:
    """Return the batch that models are traced with; a text batch is padded, or the mask would be traced away."""
    feeds = preprocessor_for(spec).random_feeds(EXAMPLE_BATCH, np.random.default_rng(EXAMPLE_SEED))
    return feeds.get("padded", feeds["random"])
