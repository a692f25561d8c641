"""Augmented versions of an image: another crop, perhaps mirrored, in other colours.

Crops are drawn as in Szegedy et al. 2014, "Going Deeper with Convolutions" (arXiv:1409.4842), section 6, in the form of
torchvision's ``RandomResizedCrop``; brightness, contrast and saturation vary as in Howard 2013, "Some Improvements on
Deep Convolutional Neural Network Based Image Classification" (arXiv:1312.5402).

A change of the results must also change :data:`topwork.extract.sources.item.AUGMENTATION_VERSION`: stores distinguish
by it what was computed before from what is computed after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageEnhance

from ...models.image_spec import ImageSpec
from .resize import FILTERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CROP_TRIES = 10
"""Crops that are drawn until one fits into the image."""


@dataclass(frozen=True)
class Augmentation:
    """Ranges from which views are drawn.

    Parameters
    ----------
    area : (float, float)
        Share of the image's area that a crop shows. Models are trained from 0.08 on; with few views of each image and
        a model that is not trained any further, crops so small would mostly have wrong labels.
    proportions : (float, float)
        Width to height of a crop, relative to the model's input.
    mirrored : float
        Share of the views that are mirrored.
    jitter : (float, float)
        Factor by which each enhancer changes an image.
    """

    area: tuple[float, float] = (0.35, 1.0)
    proportions: tuple[float, float] = (3 / 4, 4 / 3)
    mirrored: float = 0.5
    jitter: tuple[float, float] = (0.6, 1.4)
    enhancers: tuple[type[Any], ...] = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


DEFAULT_AUGMENTATION = Augmentation()


def augment(
    image: Image.Image, spec: ImageSpec, seed: int, augmentation: Augmentation = DEFAULT_AUGMENTATION
) -> NDArray[np.uint8]:
    """Return the pixels of a random crop of an RGB image, at random mirrored and changed in colour.

    They are uint8 ``(height, width, 3)`` of the model's input; the seed determines everything random.
    """
    generator = np.random.default_rng(seed)
    height, width = spec.size
    box = draw_crop(image.size, width / height, generator, augmentation=augmentation)
    view = image.crop(box).resize((width, height), FILTERS[spec.interpolation])
    if generator.random() < augmentation.mirrored:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(jitter_colors(view, generator, augmentation))


def draw_crop(
    image_size: tuple[int, int],
    ratio: float,
    generator: np.random.Generator,
    augmentation: Augmentation = DEFAULT_AUGMENTATION,
) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a random crop; where none fits, of the largest in the centre.

    `image_size` is (width, height), and `ratio` width to height of the model's input. Only uniform numbers are drawn,
    as their streams stay the same in other versions of NumPy.
    """
    width, height = image_size
    narrowest, widest = augmentation.proportions
    for _ in range(MAX_CROP_TRIES):
        area = width * height * _draw_between(*augmentation.area, generator)
        crop_ratio = ratio * math.exp(_draw_between(math.log(narrowest), math.log(widest), generator))
        columns = round(math.sqrt(area * crop_ratio))
        rows = round(math.sqrt(area / crop_ratio))
        horizontal, vertical = generator.random(2)
        if 0 < columns <= width and 0 < rows <= height:
            left = int(horizontal * (width - columns + 1))
            top = int(vertical * (height - rows + 1))
            return left, top, left + columns, top + rows
    return largest_crop(image_size, ratio, augmentation.proportions)


def largest_crop(
    image_size: tuple[int, int], ratio: float, proportions: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Return the largest centred crop whose width to height lies between two proportions of a ratio."""
    width, height = image_size
    narrowest, widest = proportions
    columns = max(1, min(width, round(height * ratio * widest)))
    rows = max(1, min(height, round(width / (ratio * narrowest))))
    left = (width - columns) // 2
    top = (height - rows) // 2
    return left, top, left + columns, top + rows


def jitter_colors(
    image: Image.Image, generator: np.random.Generator, augmentation: Augmentation = DEFAULT_AUGMENTATION
) -> Image.Image:
    """Change brightness, contrast and saturation by random factors, in random order."""
    enhancers = augmentation.enhancers
    factors = [_draw_between(*augmentation.jitter, generator) for _ in enhancers]
    order = np.argsort(generator.random(len(enhancers))).tolist()
    for place in order:
        image = enhancers[place](image).enhance(factors[place])
    return image


def _draw_between(low: float, high: float, generator: np.random.Generator) -> float:
    return low + (high - low) * float(generator.random())
