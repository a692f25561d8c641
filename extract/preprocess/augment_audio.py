"""Augmented versions of a sound: louder or softer, shifted in time, with some noise.

A change of the results must also change :data:`topwork.extract.sources.item.AUGMENTATION_VERSION`: stores distinguish
by it what was computed before from what is computed after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SILENCE = 1e-8
"""Mean square below which a sound gets no noise: -80 dB."""


@dataclass(frozen=True)
class SoundAugmentation:
    """Ranges from which views are drawn.

    Parameters
    ----------
    gain : (float, float)
        Decibels by which a sound is made louder.
    shift : float
        Largest share of a sound by which it is shifted in time; what leaves at one end enters at the other.
    noise : (float, float)
        Decibels by which the sound is louder than the white noise that is added.
    """

    gain: tuple[float, float] = (-6.0, 6.0)
    shift: float = 0.1
    noise: tuple[float, float] = (15.0, 40.0)


DEFAULT_AUGMENTATION = SoundAugmentation()


def augment(
    samples: NDArray[np.float32], seed: int, augmentation: SoundAugmentation = DEFAULT_AUGMENTATION
) -> NDArray[np.float32]:
    """Return ``([channels, ]samples)`` with another gain, shifted, and with noise; the seed determines all of it."""
    generator = np.random.default_rng(seed)
    decibels, place, ratio = generator.random(3)
    length = samples.shape[-1]
    low, high = augmentation.gain
    gain = 10 ** ((low + (high - low) * decibels) / 20)
    shift = round(length * augmentation.shift * (2 * place - 1))
    view = np.roll(samples, shift, axis=-1) * np.float32(gain)
    power = float(np.square(view).mean())
    if power > SILENCE:
        low, high = augmentation.noise
        deviation = np.sqrt(power / 10 ** ((low + (high - low) * ratio) / 10))
        view = view + deviation * generator.standard_normal(view.shape)
    return view.astype(np.float32)
