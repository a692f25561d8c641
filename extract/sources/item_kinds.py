"""The kinds of items, by the kind of input of the backbone: which files and which Python objects are items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".avif", ".heic", ".heif", ".hif"),
)
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64"),
)


@dataclass(frozen=True)
class ItemKind:
    """How items of one kind are recognised."""

    suffixes: tuple[str, ...]
    """Endings of the files that are items, in lower case."""
    expected: str
    """Which Python objects are items, for error messages."""
    content_columns: tuple[str, ...] = ("path",)
    """Columns of a table that may hold the items."""
    has_strings: bool = False
    """Whether a Python string is an item itself, not the path of one."""
    has_arrays: bool = True
    has_sounds: bool = False
    """Whether samples with their rate are an item."""
    has_views: bool = False
    color_channels: tuple[int, ...] = ()
    """Sizes of the last axis that show that an array of up to three axes is one item."""

    def matches(self, name: str) -> bool:
        """Return whether the file of this name is an item; hidden files are not."""
        base = name.rpartition("/")[2]
        return base.lower().endswith(self.suffixes) and not base.startswith(".")

    def describe_files(self) -> str:
        """Return which files are items, for error messages."""
        return f"expected files in it, or in its folders, that end in {', '.join(self.suffixes)}"

    def is_single_item(self, array: NDArray[Any]) -> bool:
        """Return whether an array is one item instead of a sequence of items."""
        return array.ndim in (1, 2, 3) and array.shape[-1] in self.color_channels


ITEM_KINDS = {
    "image": ItemKind(
        suffixes=IMAGE_SUFFIXES,
        expected="a path, the bytes of a file, a uint8 array or a PIL image",
        has_views=True,
        color_channels=(3, 4),
    ),
    "text": ItemKind(
        suffixes=(".txt",),
        expected="a text, or the path of a text file",
        content_columns=("text", "path"),
        has_strings=True,
        has_arrays=False,
    ),
    "audio": ItemKind(
        suffixes=AUDIO_SUFFIXES,
        expected="a path, the bytes of a file, (samples, rate), {'array': samples, 'sampling_rate': rate} or a decoder",
        has_arrays=False,
        has_sounds=True,
        has_views=True,
    ),
    "tensor": ItemKind(
        suffixes=(".npy",),
        expected="an array of numbers, or the path of an .npy file",
    ),
}
