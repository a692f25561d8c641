"""Audio input: decoded, mixed, resampled, cut to the window, scaled; padded with silence where a batch is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DecodeError, MissingPackageError, reason
from ...models.audio_spec import LENGTH_INPUT, AudioSpec
from ..sources.item import View
from ..sources.sound import INT16_SCALE, Clip, Span, as_sound, measure_sound, read_clip
from .augment_audio import augment
from .preprocessor import Feed, Prepared, prepare_each

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_VARIANCE = 1e-7
"""Added to the variance of a sound before its samples are divided by the root, as in transformers."""
TOKENS_PER_SECOND = 50
"""Vectors that wav2vec 2.0 and its relatives make of a second: the measure of batches, as tokens are for text."""
SYNTHETIC_TONES = 3
SYNTHETIC_SECONDS = 2
QUALITY = "HQ"
"""Quality of the resampler, as in librosa and transformers."""


class AudioPreprocessor:
    """Encoded sounds, clips, ``(samples, rate)`` or ``{"array": …, "sampling_rate": …}``, to samples.

    An array alone has the rate of the model: synthetic items are such, but no items of a source.
    """

    items_per_call = 1

    def __init__(self, spec: AudioSpec) -> None:
        self.spec = spec

    def prepare(self, content: Any) -> Prepared:
        """Return the samples float32 ``(samples,)`` or ``(channels, samples)`` of a sound, at most a window of it."""
        view = content if isinstance(content, View) else None
        if view is not None:
            content = view.content
        spec = self.spec
        sound = as_sound((content, spec.rate) if isinstance(content, np.ndarray) else content)
        is_truncated = False
        if not isinstance(sound, Clip) or sound.count is None:
            n_samples = measure_sound(sound).count_samples(spec.rate)
            is_truncated = n_samples > spec.window_samples
            sound = read_clip(sound, spec.rate, Span(0, min(n_samples, spec.window_samples)))
        samples = resample(mix(sound.samples, spec.channels), sound, spec.rate)
        if view is not None:
            samples = augment(samples, seed=int(view.digest, 16))
        n_samples = samples.shape[-1]
        if n_samples < spec.shortest:
            raise DecodeError(
                f"the sound has {n_samples} samples at {spec.rate:,} Hz; expected {spec.shortest} or more"
            )
        samples = self._scale(samples)
        length = n_samples * TOKENS_PER_SECOND // spec.rate + 1 if spec.lengths_vary else 0
        return Prepared(self._repeat(samples), length, truncated=is_truncated, is_padded=not spec.lengths_vary)

    def prepare_all(self, contents: Sequence[Any]) -> list[Prepared | DecodeError]:
        """Return for each item what :meth:`prepare` returns or raises."""
        return prepare_each(self.prepare, contents)

    def collate(self, arrays: Sequence[NDArray[Any]]) -> Feed:
        """Return the samples, float32 ``(batch[, channels], samples)``, and the number of each sound's if wanted."""
        longest = arrays[0].shape[-1] if self.spec.lengths_vary else self.spec.window_samples
        batch = np.zeros((len(arrays), *arrays[0].shape[:-1], longest), np.float32)
        for row, array in zip(batch, arrays, strict=True):
            row[..., : array.shape[-1]] = array
        feed: Feed = {self.spec.input_name: batch}
        if self.spec.passes_length:
            feed[LENGTH_INPUT] = np.array([array.shape[-1] for array in arrays], np.int64)
        return feed

    def synthetic(self, count: int, generator: np.random.Generator) -> list[NDArray[np.int16]]:
        """Return chords with some noise, int16 ``(samples, channels)``, of two lengths that take turns."""
        spec = self.spec
        longest = min(spec.window_samples, max(SYNTHETIC_SECONDS * spec.rate, 2 * spec.shortest))
        lengths = (longest, max(spec.shortest, longest * 2 // 3))
        sounds = []
        for number in range(count):
            n_samples = lengths[number % 2]
            seconds = np.arange(n_samples) / spec.rate
            frequencies = generator.uniform(50, spec.rate / 3, SYNTHETIC_TONES)
            tones = np.sin(2 * np.pi * frequencies[:, None] * seconds).mean(axis=0)
            noise = generator.standard_normal((n_samples, spec.channels))
            samples = np.clip(0.3 * tones[:, None] + 0.03 * noise, -1, 1)
            sounds.append((samples * (INT16_SCALE - 1)).astype(np.int16))
        return sounds

    def random_feeds(self, batch: int, generator: np.random.Generator) -> dict[str, Feed]:
        """Return noise of one length; where the model takes lengths, also of several."""
        spec = self.spec
        longest = spec.window_samples
        if spec.lengths_vary:
            longest = min(longest, spec.shortest + spec.rate // 2 + 331 * batch)
        scale = INT16_SCALE if spec.scale == "int16" else 1.0
        channels = () if spec.channels == 1 else (spec.channels,)
        noise = (0.1 * scale * generator.standard_normal((batch, *channels, longest))).astype(np.float32)
        feeds = {"random": self.collate(list(noise))}
        if spec.passes_length:
            lengths = [max(spec.shortest, longest * (2 + number) // (4 + number)) for number in range(batch)]
            feeds["padded"] = self.collate([row[..., :length] for row, length in zip(noise, lengths, strict=True)])
        return feeds

    def _scale(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return samples in the range that the model takes."""
        if self.spec.standardize:
            spread = np.sqrt(samples.var(axis=-1, keepdims=True) + MIN_VARIANCE)
            samples = (samples - samples.mean(axis=-1, keepdims=True)) / spread
        if self.spec.scale == "int16":
            samples = samples * np.float32(INT16_SCALE)
        return samples

    def _repeat(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a shorter sound repeated, where it is to be."""
        window = self.spec.window_samples
        if self.spec.padding == "repeat":
            times = -(-window // samples.shape[-1])
        elif self.spec.padding == "repeat_whole":
            times = window // samples.shape[-1]
        else:
            return samples
        return np.concatenate([samples] * times, axis=-1)[..., :window] if times > 1 else samples


def mix(samples: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Return ``(frames, channels)`` as the mean of the channels, or with as many channels as the model takes."""
    if not np.isfinite(samples).all():
        raise DecodeError("samples that are not finite")
    found = samples.shape[1]
    if channels == 1:
        mean: NDArray[np.float32] = samples[:, 0] if found == 1 else samples.mean(axis=1)
        return mean
    if found == 1:
        return np.repeat(samples, channels, axis=1)
    if found != channels:
        raise DecodeError(f"the sound has {found} channels; expected {channels}, or 1")
    return samples


def resample(samples: NDArray[np.float32], clip: Clip, rate: int) -> NDArray[np.float32]:
    """Return the part of a clip, mixed to ``(frames[, channels])``, in another rate as ``([channels, ]samples)``.

    As in librosa and transformers there are as many samples as the frames are long, rounded up.
    """
    if clip.rate != rate:
        n_samples = -(-len(samples) * rate // clip.rate)
        samples = import_soxr().resample(samples, clip.rate, rate, quality=QUALITY)[:n_samples]
        lacking = n_samples - len(samples)
        if lacking:
            samples = np.concatenate([samples, np.zeros((lacking, *samples.shape[1:]), np.float32)])
    end = None if clip.count is None else clip.start + clip.count
    return np.ascontiguousarray(samples[clip.start : end].T, np.float32)


def import_soxr() -> Any:
    """Return the module soxr; raise a MissingPackageError if it is not installed."""
    try:
        import soxr
    except ImportError as error:
        raise MissingPackageError(
            f"sounds of another rate than the model's need the package soxr, which cannot be loaded ({reason(error)}): "
            "pip install 'topwork[audio]'"
        ) from error
    return soxr
