"""Audio input: how a sound is decoded, mixed, resampled, divided into windows, padded and scaled."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import InputError
from .input_spec import GraphInput, InputOverrides, InputSpec, check_item_values

CHOICES = {
    "padding": ("silence", "repeat", "repeat_whole", "none"),
    "long": ("truncate", "windows", "mean"),
    "scale": ("unit", "int16"),
}
"""Allowed values of the fields that have only a few."""
TRUNCATE, WINDOWS, MEAN = "truncate", "windows", "mean"
RATES = range(1_000, 1_000_001)
"""Sample rates that a model may take, in Hz."""
MAX_CHANNELS = 64
LENGTH_INPUT = "n_samples"
"""Name of the graph's input for the number of samples of each sound."""


@dataclass(frozen=True)
class AudioSpec(InputSpec):
    """Preprocessing of an audio model: decode, mix the channels, resample, divide into windows, pad, scale.

    Parameters
    ----------
    rate : int
        Samples per second that the model takes, in Hz. Other sounds are resampled by soxr, in its high quality.
    window : float
        Seconds of sound that enter the model at a time.
    hop : float, optional
        Seconds from the start of one window to that of the next; by default windows follow each other without overlap.
    long : {"truncate", "windows", "mean"}
        What becomes of a sound longer than the window: its beginning alone is computed, which is counted; each window
        is an item of its own, ``id#t=SECONDS``; or the features of its windows are averaged.
    padding : {"silence", "repeat", "repeat_whole", "none"}
        What becomes of a shorter sound: silence follows it; it is repeated, and cut at the end of the window; it is
        repeated as often as it fits whole, and silence follows; or it enters the model as long as it is.
    channels : int
        1 for the mean of the channels; otherwise sounds must have as many, or one, which is copied.
    scale : {"unit", "int16"}
        Range of the samples: -1 to 1, or -32,768 to 32,767.
    standardize : bool
        Whether the mean of each sound is subtracted, and its samples are divided by their standard deviation, padding
        left out.
    shortest : int
        Smallest number of samples that the model takes, for ``padding="none"``; a shorter sound fails.
    passes_length : bool
        Whether the model also takes the number of samples of each sound, without padding, int64 ``(batch,)``.

    Examples
    --------
    >>> spec = AudioSpec(rate=16_000, window=1.5)
    >>> spec.item_shape
    (24000,)
    """

    kind: ClassVar[str] = "audio"
    overrides: ClassVar[tuple[str, ...]] = ("rate", "window", "hop", "long", "scale")
    input_name: ClassVar[str] = "samples"
    """Name of the graph's input."""

    rate: int
    window: float
    hop: float | None = None
    long: str = "truncate"
    padding: str = "silence"
    channels: int = 1
    scale: str = "unit"
    standardize: bool = False
    shortest: int = 1
    passes_length: bool = False

    def __post_init__(self) -> None:
        """Convert numbers to plain types, so that equal specifications have equal digests, and check all fields."""
        hop = self.hop
        try:
            for name, kind in {"rate": int, "window": float, "channels": int, "shortest": int}.items():
                object.__setattr__(self, name, kind(getattr(self, name)))
            object.__setattr__(self, "hop", self.window if hop is None else float(hop))
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"rate, window, hop, channels and shortest are numbers: {error}") from error
        if self.rate not in RATES:
            raise InputError(f"rate={self.rate}: expected samples per second, from {RATES[0]:,} to {RATES[-1]:,} Hz")
        if not math.isfinite(self.window) or self.window_samples < 1:
            raise InputError(f"window={self.window}: expected seconds, at least one sample of {self.rate:,} Hz")
        if self.long == TRUNCATE and self.hop != self.window:
            raise InputError(
                f"hop={hop} has no effect with long='truncate'; expected long='windows' or 'mean' (--long)"
            )
        if not 0 < self.hop_seconds <= self.window or self.hop_samples < 1:
            raise InputError(f"hop={self.hop}: expected seconds, more than 0 and at most the window of {self.window:g}")
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise InputError(f"channels={self.channels}: expected a number from 1 to {MAX_CHANNELS}")
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name}={value!r}: expected one of {', '.join(allowed)}")
        if not 1 <= self.shortest <= self.window_samples:
            raise InputError(f"shortest={self.shortest}: expected samples, from 1 to {self.window_samples:,}")
        if self.passes_length and self.lengths_vary:
            raise InputError("passes_length with padding='none': sounds are not padded; expected another padding")
        check_item_values((self.channels, self.window_samples))

    @property
    def hop_seconds(self) -> float:
        """Seconds from the start of one window to that of the next."""
        return self.window if self.hop is None else self.hop

    @property
    def window_samples(self) -> int:
        """Number of samples of a window."""
        return round(self.window * self.rate)

    @property
    def hop_samples(self) -> int:
        """Number of samples from the start of one window to that of the next."""
        return round(self.hop_seconds * self.rate)

    @property
    def graph_inputs(self) -> tuple[GraphInput, ...]:
        """The samples, float32 ``(batch, samples)`` or ``(batch, channels, samples)``, and perhaps their numbers."""
        length: int | str = "sequence" if self.lengths_vary else self.window_samples
        channels = () if self.channels == 1 else (self.channels,)
        samples = GraphInput(self.input_name, "float32", ("batch", *channels, length))
        if self.passes_length:
            return (samples, GraphInput(LENGTH_INPUT, "int64", ("batch",)))
        return (samples,)

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        """Shape of one sound: samples, or channels and samples; None where lengths vary."""
        if self.lengths_vary:
            return None
        return (self.window_samples,) if self.channels == 1 else (self.channels, self.window_samples)

    @property
    def length_range(self) -> tuple[int, int] | None:
        """Smallest and largest number of samples; None where all sounds are padded to the window."""
        return (self.shortest, self.window_samples) if self.padding == "none" else None

    @property
    def pads_batches(self) -> bool:
        """Whether shorter items are padded to the longest of their batch: never, sounds of one length are a batch."""
        return False

    @property
    def averages_windows(self) -> bool:
        """Whether the features of the windows of a sound are averaged."""
        return self.long == MEAN

    def override(self, changes: InputOverrides) -> AudioSpec:
        """Return a copy with the user's changes.

        Raise an InputError for another rate or scale than the model's, and for another window where sounds are padded.
        """
        changes.require_only(*self.overrides, kind=self.kind)
        for name in ("rate", "scale"):
            value = getattr(changes, name)
            if value not in (None, getattr(self, name)):
                raise InputError(f"{name}={value!r}: this backbone takes sounds with {name}={getattr(self, name)!r}")
        spec = self if changes.long is None else replace(self, long=changes.long, hop=None)
        if self.long != TRUNCATE and spec.long != TRUNCATE:
            spec = replace(spec, hop=self.hop)
        if changes.window is not None and changes.window != self.window:
            if not self.lengths_vary or changes.window > self.window:
                expected = f"at most {self.window:g}" if self.lengths_vary else f"{self.window:g}"
                raise InputError(f"window={changes.window}: this backbone takes sounds of {expected} seconds")
            hop = None if spec.long == TRUNCATE else min(spec.hop_seconds, changes.window)
            spec = replace(spec, window=changes.window, hop=hop)
        return spec if changes.hop is None else replace(spec, hop=changes.hop)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary; the hop is left out where sounds are not divided."""
        fields = super().to_json()
        if self.long == "truncate":
            del fields["hop"]
        return fields


def describe_samples(axes: tuple[int | None, ...], changes: InputOverrides) -> AudioSpec:
    """Return the specification of an input of samples, whose rate the user states.

    Parameters
    ----------
    axes : tuple of int or None
        Sizes of ``(samples,)`` or ``(channels, samples)``, None for a free one.
    changes : InputOverrides
        With a rate, and a window if the number of samples is free.

    Raises
    ------
    InputError
        If the window is missing, or another one than the number of samples states.
    """
    assert changes.rate is not None
    if changes.rate not in RATES:
        raise InputError(f"rate={changes.rate}: expected samples per second, from {RATES[0]:,} to {RATES[-1]:,} Hz")
    if changes.window is not None and not math.isfinite(changes.window):
        raise InputError(f"window={changes.window}: expected seconds")
    *channels, n_samples = axes
    window = changes.window
    if n_samples is not None:
        window = n_samples / changes.rate
        if changes.window is not None and round(changes.window * changes.rate) != n_samples:
            raise InputError(
                f"window={changes.window}: this backbone takes {n_samples:,} samples, {window:g} seconds at "
                f"{changes.rate:,} Hz"
            )
    if window is None:
        raise InputError("this backbone takes any number of samples: state window= (--window), in seconds")
    scale = changes.scale or "unit"
    n_channels = channels[0] if channels and channels[0] is not None else 1
    spec = AudioSpec(changes.rate, window, channels=n_channels, scale=scale)
    return spec.override(replace(changes, window=None))
