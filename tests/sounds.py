"""Sounds made for tests: chirps and noise, as arrays and files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

PITCHES = {"low": 150.0, "middle": 500.0, "high": 1500.0}


def chirp(
    seconds: float, rate: int, channels: int = 1, *, pitch: float = 100.0, rise: float = 600.0, seed: int = 0
) -> NDArray[np.float32]:
    """Return a tone that rises, with a little noise that differs by channel, ``(frames, channels)``."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal((len(time), channels))
    tone = 0.4 * np.sin(2 * np.pi * (pitch + rise * time) * time)
    return (tone[:, None] + 0.02 * noise).astype(np.float32)


def encode(samples: NDArray[Any], rate: int, ending: str = "wav") -> bytes:
    """Return samples ``(frames, channels)`` as a file."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=ending)
    return stream.getvalue()


def write_sounds(folder: Path, count: int, seconds: float = 0.5, rate: int = 8_000) -> Path:
    """Write `count` files for each of three pitches, in folders named after these."""
    for label, pitch in PITCHES.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            samples = chirp(seconds, rate, pitch=pitch * (1 + 0.02 * number), rise=50.0, seed=number)
            (folder / label / f"{number}.wav").write_bytes(encode(samples, rate))
    return folder
