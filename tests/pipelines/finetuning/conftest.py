"""Digits as photographs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits


@pytest.fixture(scope="session")
def digits() -> tuple[list[np.ndarray], np.ndarray]:
    """Return 640 digits as photographs of 32 x 32 pixels, in random order, and their labels."""
    loaded = load_digits()
    order = np.random.default_rng(0).permutation(len(loaded.target))[:640]
    images = [np.kron(loaded.images[row] * 15, np.ones((4, 4))).astype(np.uint8) for row in order]
    return [np.repeat(image[..., None], 3, axis=2) for image in images], loaded.target[order]
