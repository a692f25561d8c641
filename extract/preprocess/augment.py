"""Augmented versions of an image: another crop, perhaps mirrored, in other colours.

Crops are drawn as in Szegedy et al. 2014, "Going Deeper with Convolutions" (arXiv:1409.4842), section 6, in the form of
torchvision's ``RandomResizedCrop``; brightness, contrast and saturation vary as in Howard 2013, "Some Improvements on
Deep Convolutional Neural Network Based Image Classification" (arXiv:1312.5402).

A change of the results must also change :data:`topwork.extract.sources.item.AUGMENTATION`: stores keep what was
computed before apart from what is computed after.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance

from ...models.image_spec import ImageSpec
from .resize import FILTERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALE = (0.35, 1.0)
"""Share of the image's area that a crop shows. Networks are trained from 0.08 on; with few views of each image and a
network that learns nothing more, crops so small would mostly be wrong labels."""
RATIO = (3 / 4, 4 / 3)
"""Width to height of a crop, relative to the network's input."""
TRIES = 10
"""Crops that are drawn until one fits into the image."""
FLIPPED = 0.5
"""Share of the views that are mirrored."""
JITTER = (0.6, 1.4)
"""Factor of brightness, of contrast, and of saturation."""
JITTERED = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def augmented(image: Image.Image, spec: ImageSpec, seed: int) -> NDArray[np.uint8]:
    """Return the pixels of a random crop of an image, at random mirrored and changed in colour.

    Parameters
    ----------
    image : PIL.Image.Image
        In mode RGB.
    spec : ImageSpec
        Size of the network's input, and the filter that resizes the crop to it.
    seed : int
        Everything random follows from it.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        Height and width as the specification says.

    Examples
    --------
    >>> augmented(Image.new("RGB", (300, 200)), ImageSpec(size=(224, 224), resize=256), seed=1).shape
    (224, 224, 3)
    """
    generator = np.random.default_rng(seed)
    height, width = spec.size
    crop = image.crop(drawn_crop(image.width, image.height, width / height, generator))
    view = crop.resize((width, height), FILTERS[spec.interpolation])
    if generator.random() < FLIPPED:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(_jittered(view, generator))


def drawn_crop(width: int, height: int, ratio: float, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a random crop; where none fits, of the largest in the centre.

    Parameters
    ----------
    width, height : int
        Of the image.
    ratio : float
        Width to height of the network's input.
    generator : Generator
        Only uniform numbers are drawn, whose streams stay as they are in other versions of NumPy.
    """
    for _ in range(TRIES):
        area = width * height * _between(*SCALE, generator)
        shape = ratio * math.exp(_between(math.log(RATIO[0]), math.log(RATIO[1]), generator))
        columns, rows = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        left, top = generator.random(2)
        if 0 < columns <= width and 0 < rows <= height:
            return _box(int(left * (width - columns + 1)), int(top * (height - rows + 1)), columns, rows)
    columns = max(1, min(width, round(height * ratio * RATIO[1])))
    rows = max(1, min(height, round(width / (ratio * RATIO[0]))))
    return _box((width - columns) // 2, (height - rows) // 2, columns, rows)


def _box(left: int, top: int, columns: int, rows: int) -> tuple[int, int, int, int]:
    return left, top, left + columns, top + rows


def _jittered(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Change brightness, contrast and saturation, in random order."""
    factors = [_between(*JITTER, generator) for _ in JITTERED]
    for place in np.argsort(generator.random(len(JITTERED))).tolist():
        image = JITTERED[place](image).enhance(factors[place])
    return image


def _between(low: float, high: float, generator: np.random.Generator) -> float:
    return low + (high - low) * float(generator.random())
