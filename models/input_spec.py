"""Input specifications: what all kinds have in common, and the changes that users may make to them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

MAX_ITEM_VALUES = 2**28
"""Largest number of values of one item: 1 GiB of float32."""


def check_item_values(sizes: Sequence[int]) -> None:
    """Raise an InputError for items of more than :data:`MAX_ITEM_VALUES`, before memory for them is taken."""
    n_values = math.prod(sizes)
    if n_values > MAX_ITEM_VALUES:
        raise InputError(
            f"items of sizes {tuple(sizes)} have {n_values:,} values each; expected at most {MAX_ITEM_VALUES:,}"
        )


@dataclass(frozen=True)
class InputOverrides:
    """Changes to an input specification; ``None`` keeps the backbone's own value.

    Parameters
    ----------
    mean, std, size, crop, interpolation, decode
        For image input; see :class:`topwork.ImageSpec`.
    max_length : int or None
        For text input, in tokens.
    prompt : str or None
        For text input: put in front of every text.
    rate, window, hop, long, scale
        For audio input, see :class:`topwork.AudioSpec`. An ONNX file takes sounds if a rate is stated.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | tuple[int, int] | None = None
    crop: float | None = None
    interpolation: str | None = None
    decode: str | None = None
    max_length: int | None = None
    prompt: str | None = None
    rate: int | None = None
    window: float | None = None
    hop: float | None = None
    long: str | None = None
    scale: str | None = None

    def require_only(self, *names: str, kind: str) -> None:
        """Refuse overrides that do not apply to this kind of input.

        Raises
        ------
        InputError
            If another override than those of `names` is set.
        """
        for field in fields(self):
            if field.name not in names and getattr(self, field.name) is not None:
                allowed = ", ".join(names) or "no overrides"
                raise InputError(f"{field.name} does not apply to {kind} input, which takes {allowed}")


@dataclass(frozen=True)
class GraphInput:
    """One input of an exported graph.

    Its dtype has NumPy's name, such as "uint8"; an axis is the name of a free one ("batch", "sequence"), or a fixed
    size.
    """

    name: str
    dtype: str
    axes: tuple[str | int, ...]

    @property
    def free_axes(self) -> dict[int, str]:
        """Positions and names of the axes that may have any size."""
        return {position: axis for position, axis in enumerate(self.axes) if isinstance(axis, str)}


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation per channel, for pixels scaled to 0 .. 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class InputSpec(ABC):
    """Frozen description of a model's input, which travels with its graph.

    What differs between kinds of input is stated by the attributes and methods of this class. What needs the packages
    that read and prepare items is registered there, by :attr:`kind`: see :mod:`topwork.extract.sources.item_kinds` and
    :mod:`topwork.extract.preprocess.by_kind`.
    """

    kind: ClassVar[str]
    """Name of the kind of input: "image", "text", "audio" or "tensor"."""
    color_axis: ClassVar[int | None] = None
    """Axis of the graph's input along which red, green and blue lie."""
    overrides: ClassVar[tuple[str, ...]] = ()
    """Fields of :class:`InputOverrides` that apply to this kind."""

    @property
    @abstractmethod
    def graph_inputs(self) -> tuple[GraphInput, ...]:
        """Inputs of an exported graph, in order."""

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        """Shape of one item as it enters the model, after normalisation; None where lengths vary."""
        return None

    @property
    def length_range(self) -> tuple[int, int] | None:
        """Smallest and largest number of tokens or samples of an item; None where all items have the same shape."""
        return None

    @property
    def lengths_vary(self) -> bool:
        """Whether items differ in length."""
        return self.length_range is not None

    @property
    def pads_batches(self) -> bool:
        """Whether the items of a batch are padded to the longest; otherwise they have the same length."""
        return self.lengths_vary

    @property
    def averages_windows(self) -> bool:
        """Whether an item consists of windows whose features are averaged."""
        return False

    @property
    def has_mask(self) -> bool:
        """Whether the last input of the graph is a mask: 1 for the tokens that count, 0 for padding."""
        return False

    @property
    def is_square(self) -> bool:
        """Whether items are images as high as they are wide."""
        return False

    @property
    def argument_names(self) -> tuple[str, ...]:
        """Names of the module's arguments that take the inputs; empty where they are passed by position."""
        return ()

    @property
    def normalization(self) -> Normalization | None:
        """How the graph normalises images before they enter the model; None for inputs that enter it unchanged."""
        return None

    def with_exact_decoding(self) -> Self:
        """Return a copy that decodes items exactly."""
        return self

    def override(self, changes: InputOverrides) -> Self:
        """Return a copy with the user's changes; raise an InputError if one does not apply or is out of range."""
        changes.require_only(*self.overrides, kind=self.kind)
        return self

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that :func:`topwork.models.input_kinds.input_spec_from_json` reads."""
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any], folder: Path) -> Self:
        """Read what :meth:`to_json` (without the kind) and :meth:`files` (into `folder`) wrote."""
        return cls(**values)

    def files(self) -> dict[str, bytes]:
        """Return the files that travel with the graph, by name."""
        return {}

    def serving_files(self) -> dict[str, bytes]:
        """Return the files that programs other than topwork need to prepare an item, by name."""
        return self.files()
