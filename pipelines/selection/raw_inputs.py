"""Features that no network computed: what the inputs themselves say, with which a probe compares."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ...extract.preprocess.by_kind import preprocessor_for
from ...extract.preprocess.spectrogram import compute_log_mel
from ...models.audio_spec import MEAN, AudioSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.preprocess.preprocessor import Preprocessor
    from ...extract.sources.item import Source
    from ...models.input_spec import InputSpec

    Array = NDArray[Any]

RAW_SIDE = 16
"""Height and width in pixels to which images are reduced."""
N_TEXT_FEATURES = 4096
N_TENSOR_FEATURES = 4096
"""Of larger arrays, so many random projections are taken."""
LONGEST_SECONDS = 60.0
"""Of sounds whose windows are averaged, so much is described."""
LETTERS = (2, 4)
"""Lengths of the sequences of letters, within words, that are counted in texts."""


def describe_inputs(items: Source, spec: InputSpec, max_pixels: int) -> Array:
    """Return features of items that need no network.

    Parameters
    ----------
    items : Source
        Items that can be prepared for the model.
    spec : InputSpec
        Input of the model.
    max_pixels : int
        As for :class:`topwork.Extractor`.

    Returns
    -------
    ndarray of float32, shape (n_items, n_features)
        The pixels of images as they enter the model, at 16 by 16; the normalised counts of sequences of two to four
        letters in texts, hashed; mean and standard deviation of the log-mel energies of sounds; the numbers of arrays,
        many of them projected at random.
    """
    describe = DESCRIPTIONS[spec.kind]
    return describe(items, preprocessor_for(spec, max_pixels))


def describe_images(items: Source, preprocessor: Preprocessor) -> Array:
    """Return the pixels of small versions of images."""
    rows = []
    for item in items:
        pixels = preprocessor.prepare(item.read()).array
        small = Image.fromarray(pixels).resize((RAW_SIDE, RAW_SIDE), Image.Resampling.BOX)
        rows.append(np.asarray(small, np.float32).ravel() / 255)
    return np.stack(rows)


def describe_texts(items: Source, preprocessor: Preprocessor) -> Array:
    """Return counts of sequences of letters; a text that is stored as bytes is UTF-8."""
    from sklearn.feature_extraction.text import HashingVectorizer

    contents = [item.read() for item in items]
    texts = [content.decode("utf-8") if isinstance(content, bytes) else content for content in contents]
    counter = HashingVectorizer(analyzer="char_wb", ngram_range=LETTERS, n_features=N_TEXT_FEATURES)
    counts: Array = counter.transform(texts).toarray()
    return counts.astype(np.float32)


def describe_sounds(items: Source, preprocessor: Preprocessor) -> Array:
    """Return mean and standard deviation over time of the log-mel energies of sounds, their channels mixed."""
    spec = preprocessor.spec
    assert isinstance(spec, AudioSpec)
    seconds = max(spec.window, LONGEST_SECONDS) if spec.long == MEAN else spec.window
    plain = preprocessor_for(AudioSpec(spec.rate, seconds, padding="none"))
    rows = []
    for item in items:
        bands = compute_log_mel(plain.prepare(item.read()).array, spec.rate)
        rows.append(np.concatenate([bands.mean(axis=0), bands.std(axis=0)]))
    return np.stack(rows)


def describe_tensors(items: Source, preprocessor: Preprocessor) -> Array:
    """Return the numbers of arrays, or random projections of them."""
    from sklearn.random_projection import GaussianRandomProjection

    rows = np.stack([preprocessor.prepare(item.read()).array.ravel() for item in items]).astype(np.float32)
    if rows.shape[1] <= N_TENSOR_FEATURES:
        return rows
    projected: Array = GaussianRandomProjection(N_TENSOR_FEATURES, random_state=0).fit_transform(rows)
    return projected


DESCRIPTIONS: dict[str, Callable[[Source, Preprocessor], Array]] = {
    "image": describe_images,
    "text": describe_texts,
    "audio": describe_sounds,
    "tensor": describe_tensors,
}
"""What is computed of each kind of input."""
