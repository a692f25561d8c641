"""Spectrograms of sounds for people and for comparison: log-mel energies, which no network of a user depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME_SECONDS = 0.025
HOP_SECONDS = 0.010
N_BANDS = 64
LOWEST_FREQUENCY = 50.0
"""Lower end of the lowest band, in Hz."""
MEL_BREAK, MEL_FACTOR = 700.0, 2595.0
"""The mel scale of O'Shaughnessy 1987, "Speech Communication: Human and Machine", as in HTK."""
FLOOR = 1e-10
"""Smallest energy before its logarithm: -100 dB."""


def compute_log_mel(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return the energies of mel bands in dB, float32 ``(frames, 64)``, of samples ``(samples,)`` from -1 to 1."""
    frame = round(FRAME_SECONDS * rate)
    hop = round(HOP_SECONDS * rate)
    lacking = max(0, frame - len(samples))
    padded = np.pad(samples, (0, lacking))
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop]
    spectra = np.fft.rfft(frames * np.hanning(frame), axis=1)
    power = (spectra.real**2 + spectra.imag**2) / frame
    energies = power @ make_filters(power.shape[1], rate)
    decibels: NDArray[np.float64] = 10 * np.log10(np.maximum(energies, FLOOR))
    return decibels.astype(np.float32)


def make_filters(n_frequencies: int, rate: int) -> NDArray[np.float64]:
    """Return triangular filters ``(n_frequencies, 64)`` at equal distances on the mel scale."""
    low = MEL_FACTOR * np.log10(1 + LOWEST_FREQUENCY / MEL_BREAK)
    high = MEL_FACTOR * np.log10(1 + rate / 2 / MEL_BREAK)
    edges = MEL_BREAK * (10 ** (np.linspace(low, high, N_BANDS + 2) / MEL_FACTOR) - 1)
    frequencies = np.linspace(0, rate / 2, n_frequencies)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return filters
