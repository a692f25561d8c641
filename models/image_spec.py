"""Preprocessing of images, as a frozen description that travels with its graph."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

from ..errors import InputError
from .input_overrides import InputOverrides

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
FITS = ("shorter", "cover", "squash", "border")
DECODES = ("exact", "fast")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class ImageSpec:
    """Preprocessing of an image classifier: decode, turn upright, resize, crop the centre, normalise.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image that enters the network, in pixels.
    resize : int
        The image is resized to this many pixels before the centre is cropped: its shorter side, or with
        ``fit="squash"`` the longer of its two sides in the proportions of `size`, or with "cover" and "border" until
        it covers that size, or just fits into it.
    fit : {"shorter", "cover", "squash", "border"}
        Keep the proportions and crop what is too much ("shorter", or "cover" for inputs that are not square); squash
        the image; or keep the proportions and surround it with a border of the mean colour.
    interpolation : str
        A filter of Pillow: "nearest", "bilinear", "bicubic", "lanczos", "box", "hamming".
    mean, std : tuple of 3 floats
        Per channel, for pixels scaled to 0 .. 1. Applied inside the graph.
    orientation : {"exif", "stored"}
        Turn photographs upright as their EXIF tag says, or leave the pixels as they are stored (but for TIFF, which
        Pillow always turns).
    decode : {"exact", "fast"}
        Every pixel as Pillow decodes it; or JPEG files at a half, a quarter or an eighth of their size, where that is
        still no smaller than the resized image. Features then differ a little, for photographs of large sizes.

    Examples
    --------
    >>> ImageSpec(size=(224, 224), resize=256).crop
    0.875
    """

    kind: ClassVar[str] = "image"

    size: tuple[int, int]
    resize: int
    fit: Literal["shorter", "cover", "squash", "border"] = "shorter"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    orientation: Literal["exif", "stored"] = "exif"
    decode: str = "exact"

    def __post_init__(self) -> None:
        """Make numbers plain, so that equal specifications have equal digests, and refuse what no network could eat."""
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        object.__setattr__(self, "size", tuple(int(side) for side in _pair(self.size)))
        object.__setattr__(self, "resize", int(self.resize))
        if len(self.size) != 2 or min(self.size) < 1 or self.resize < 1:
            raise InputError(f"size={self.size} and resize={self.resize}: expected positive numbers of pixels")
        choices = {
            "interpolation": INTERPOLATIONS,
            "fit": FITS,
            "orientation": ("exif", "stored"),
            "decode": DECODES,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name}={getattr(self, name)!r}: expected one of {', '.join(allowed)}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(math.isfinite(v) for v in values):
                raise InputError(f"{name}={values}: expected three finite numbers, one per channel (red, green, blue)")
        if min(self.std) <= 0:
            raise InputError(f"std={self.std}: expected numbers above 0")

    @property
    def fill(self) -> tuple[int, ...]:
        """Colour around an image that is smaller than the input: black, or the mean colour of a wanted border."""
        return tuple(round(255 * value) for value in self.mean) if self.fit == "border" else (0, 0, 0)

    @property
    def crop(self) -> float:
        """Share of the resized image's shorter side that is kept."""
        return min(self.size) / self.resize

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after resizing an image, before the crop."""
        if self.fit == "squash":
            scale = self.resize / min(self.size)
            return round(self.size[0] * scale), round(self.size[1] * scale)
        if self.fit in ("border", "cover"):
            scale = self.resize / min(self.size)
            ratios = height / round(self.size[0] * scale), width / round(self.size[1] * scale)
            ratio = max(ratios) if self.fit == "border" else min(ratios)
            return max(1, round(height / ratio)), max(1, round(width / ratio))
        if height <= width:
            return self.resize, max(1, int(self.resize * width / height))
        return max(1, int(self.resize * height / width)), self.resize

    def override(self, changes: InputOverrides) -> ImageSpec:
        """Return a copy with the user's changes; a new size keeps the share that is cropped."""
        changes.require_only("mean", "std", "size", "crop", "interpolation", "decode", kind=self.kind)
        size = self.size if changes.size is None else _pair(changes.size)
        if changes.crop is None:
            resize = min(size) * self.resize // min(self.size)
        elif 0 < changes.crop <= 1:
            resize = math.floor(min(size) / changes.crop)
        else:
            raise InputError(f"crop={changes.crop}: expected a share above 0 and at most 1")
        return replace(
            self,
            size=size,
            resize=resize,
            interpolation=changes.interpolation or self.interpolation,
            decode=changes.decode or self.decode,
            mean=self.mean if changes.mean is None else tuple(changes.mean),
            std=self.std if changes.std is None else tuple(changes.std),
        )

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that :func:`topwork.models.input_spec.input_spec_from_json` turns back."""
        return {"kind": self.kind, **asdict(self)}

    def files(self) -> dict[str, bytes]:
        """Return what must travel with the graph: nothing."""
        return {}


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
