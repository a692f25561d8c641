"""Sounds: how long they are, and parts of them, which are read without the rest."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DecodeError, MissingPackageError, reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

INT16_SCALE = 32_768
MARGIN_SECONDS = 0.25
"""Sound that is read before and after a part, more than the filter of the resampler reaches."""
TRUNCATED = re.compile(r"^ *data *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""What libsndfile's log says of a file whose header states another size than it has."""
UNKNOWN_SIZE = 2**31 - 2**16
"""Smallest size of a file whose writer did not know it, as in a pipe."""
MAX_VALUES = 2**27
"""Largest number of samples in all channels that are read at once: 512 MiB."""
MAX_FRAMES = 2**31
"""Largest number of samples per channel of a sound: 12 hours at 48 kHz."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Samples with their rate: a whole sound, or a part of one with some sound before and after it.

    Parameters
    ----------
    samples : ndarray
        ``(frames, channels)``: float32 from -1 to 1, or int16.
    rate : int
        Samples per second, in Hz.
    start : int
        First sample of the part, counted after resampling.
    count : int or None
        Number of samples of the part after resampling; None for all that follow.
    """

    samples: NDArray[Any]
    rate: int
    start: int = 0
    count: int | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the rate, the part, and the samples with their shape and type."""
        header = f"{self.rate}:{self.start}:{self.count}:{self.samples.dtype}{self.samples.shape}"
        return hashlib.sha256(header.encode() + self.samples.tobytes()).hexdigest()


@dataclass(frozen=True)
class Span:
    """A part of a sound, in samples of the rate that the model takes."""

    start: int
    count: int


@dataclass(frozen=True)
class Shape:
    """Frames, channels and rate of a sound."""

    frames: int
    channels: int
    rate: int

    def count_samples(self, rate: int) -> int:
        """Return the number of samples per channel after resampling to another rate."""
        return -(-self.frames * rate // self.rate)  # rounded up


@contextlib.contextmanager
def open_sound(content: Any) -> Iterator[Any]:
    """Open the bytes of a file, or the path of one, as a ``soundfile.SoundFile``.

    Raise a DecodeError if it is damaged, empty or of another kind, and a MissingPackageError without soundfile.
    """
    soundfile = import_soundfile()
    try:
        file = soundfile.SoundFile(io.BytesIO(content) if isinstance(content, bytes) else content)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        if isinstance(content, str):
            with open(content, "rb"):  # an error of the file system is one of reading
                pass
        raise DecodeError(f"no sound that libsndfile reads: {describe(error)}") from error
    with file:
        if not file.frames:
            raise DecodeError("the sound has no samples")
        stated = TRUNCATED.search(file.extra_info)
        if stated is not None and int(stated[1]) > int(stated[2]) and int(stated[1]) < UNKNOWN_SIZE:
            raise DecodeError(f"the file is truncated: it has {stated[2]} of {stated[1]} bytes of sound")
        if file.frames > MAX_FRAMES:
            raise DecodeError(f"the sound has {file.frames:,} samples; expected at most {MAX_FRAMES:,}")
        yield file


def import_soundfile() -> Any:
    """Return the module soundfile; raise a MissingPackageError if it is not installed."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # an OSError where libsndfile is missing
        raise MissingPackageError(
            f"audio input needs the package soundfile, which cannot be loaded ({reason(error)}): "
            "pip install 'topwork[audio]'"
        ) from error
    return soundfile


def describe(error: Exception) -> str:
    """Return an error of libsndfile without the name of the Python object that it read."""
    text = reason(error)
    _, _, message = text.rpartition(": ")
    return message if "BytesIO" in text else text


def measure_sound(content: Any) -> Shape:
    """Return frames, channels and rate of a file's bytes, of the file at a path, or of a clip."""
    if isinstance(content, Clip):
        frames, channels = content.samples.shape
        return Shape(frames, channels, content.rate)
    with open_sound(content) as file:
        return Shape(file.frames, file.channels, file.samplerate)


def read_clip(content: Any, rate: int, span: Span | None = None) -> Clip:
    """Return a part of a sound in samples of another rate, or all of it, from a file's bytes, a path, or a clip.

    The clip holds some sound around the part, and begins where samples of both rates coincide: so the part is, after
    resampling, what it is in the whole sound.
    """
    if isinstance(content, Clip):
        part = locate_part(measure_sound(content), rate, span)
        return Clip(content.samples[part.first : part.last], content.rate, part.start, part.count)
    with open_sound(content) as file:
        part = locate_part(Shape(file.frames, file.channels, file.samplerate), rate, span)
        return Clip(read_frames(file, part.first, part.last), file.samplerate, part.start, part.count)


@dataclass(frozen=True)
class Part:
    """Frames of a sound from `first` to before `last`, and the fields ``start`` and ``count`` of a clip of them."""

    first: int
    last: int
    start: int = 0
    count: int | None = None


def locate_part(shape: Shape, rate: int, span: Span | None) -> Part:
    """Return the frames that are read for a part of a sound in samples of another rate, or for all of it."""
    if span is None:
        return Part(0, shape.frames)
    # Frames and samples coincide at every `step` frames, which are `step_samples` samples.
    common = gcd(shape.rate, rate)
    step, step_samples = shape.rate // common, rate // common
    margin = int(MARGIN_SECONDS * shape.rate) if shape.rate != rate else 0
    first = max(0, (span.start * shape.rate // rate - margin) // step * step)
    last = min(shape.frames, -(-(span.start + span.count) * shape.rate // rate) + margin)
    return Part(first, last, start=span.start - first // step * step_samples, count=span.count)


def read_frames(file: Any, first: int, last: int) -> NDArray[np.float32]:
    """Return some frames of an open file, float32 ``(frames, channels)``; raise a DecodeError if some are lacking."""
    n_values = (last - first) * file.channels
    if n_values > MAX_VALUES:
        raise DecodeError(f"{n_values:,} samples in all channels at once; expected at most {MAX_VALUES:,}")
    try:
        if first:
            file.seek(first)
        samples: NDArray[np.float32] = file.read(last - first, dtype="float32", always_2d=True)
    except (import_soundfile().SoundFileError, RuntimeError) as error:
        raise DecodeError(f"the sound is damaged: {describe(error)}") from error
    if len(samples) < last - first:
        raise DecodeError(f"the sound ends after {first + len(samples):,} of {last:,} samples: the file is truncated")
    return samples


def is_decoder(content: Any) -> bool:
    """Return whether an item's content is a decoder of a sound, such as those of torchcodec."""
    return callable(getattr(content, "get_all_samples", None))


def as_sound(content: Any) -> bytes | Clip:
    """Return an item's content as the bytes of a file or a clip.

    Arrays come as ``(samples, rate)`` or ``{"array": …, "sampling_rate": …}``: float from -1 to 1, or int16, of shape
    ``(samples,)``, ``(samples, channels)`` or ``(channels, samples)``. A decoder of torchcodec, which the columns of
    ``datasets`` yield, is asked for all samples. Raise a DecodeError for anything else.
    """
    if isinstance(content, (bytes, Clip)):
        return content
    if is_decoder(content):
        try:
            decoded = content.get_all_samples()
            content = (decoded.data, decoded.sample_rate)
        except Exception as error:  # of the decoder's own kinds
            raise DecodeError(f"no sound that {type(content).__name__} decodes: {reason(error)}") from error
    if isinstance(content, Mapping) and {"array", "sampling_rate"} <= set(content):
        content = (content["array"], content["sampling_rate"])
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise DecodeError(
            f"a {type(content).__name__}; expected a file of sound, or (samples, rate): samples alone do not say how "
            "many of them are a second"
        )
    samples, rate = content
    try:
        array = np.asarray(samples)
        is_integral = not isinstance(rate, bool) and int(rate) == rate
    except (TypeError, ValueError, OverflowError) as error:
        raise DecodeError(f"samples with the rate {rate!r}: {reason(error)}") from error
    if array.ndim not in (1, 2) or not array.size:
        raise DecodeError(f"samples of shape {array.shape}; expected (samples,) or (samples, channels), at least one")
    if array.ndim == 1:
        array = array[:, None]
    elif array.shape[0] < array.shape[1]:
        array = array.T  # (channels, samples) -> (samples, channels)
    if array.dtype == np.int16:
        array = array.astype(np.float32) / np.float32(INT16_SCALE)
    elif array.dtype.kind != "f":
        raise DecodeError(f"samples of {array.dtype}; expected float from -1 to 1, or int16")
    if not is_integral or rate < 1:
        raise DecodeError(f"rate={rate!r}; expected samples per second, a positive integer")
    return Clip(np.ascontiguousarray(array, np.float32), int(rate))
