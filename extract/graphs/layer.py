"""A layer: one place where a model can be cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

LAST = "last"
"""Name of what feeds the model's own classifier, or of its output if it has no classifier."""

INPUT = "input"
"""Name of what enters the model, below all its layers: the cut that keeps nothing of it."""

Kind = Literal["map", "tokens", "vector"]


@dataclass(frozen=True)
class Layer:
    """One legal cut.

    Parameters
    ----------
    name : str
        Dotted name of the module whose output it is; ``name@2`` for its second call; ``last`` for what feeds the
        model's own classifier.
    shape : tuple of int or None
        Shape of one item's value, without the batch axis; None stands for the tokens of a text, or the frames of a
        sound, whose number varies.
    kind : {"map", "tokens", "vector"}
        A feature map, a sequence of tokens, or one vector.
    channel_axis : int or None
        Position of a map's channels in `shape`: 0 for channels first, -1 for channels last, None if unknown.
    prefix_tokens : int
        Number of tokens at the start of a sequence that do not come from the input: class, distillation and register
        tokens.
    parameters, flops : float
        Share of the model's parameters, and of its multiplications and additions, that the cut keeps.
    single_tensor : bool
        Whether all data of the model flows through this value, so that what lies above can be computed from it alone.
    is_padded : bool
        Whether items are padded to the longest of their batch, if they differ in length.
    """

    name: str
    shape: tuple[int | None, ...]
    kind: Kind
    channel_axis: int | None = None
    prefix_tokens: int = 0
    parameters: float = 0.0
    flops: float = 0.0
    single_tensor: bool = False
    is_padded: bool = True

    @property
    def is_masked(self) -> bool:
        """Whether it has a row for each token of a text; the attention mask then marks the tokens that count."""
        return self.is_padded and self.shape[:1] == (None,)

    @property
    def lengths_vary(self) -> bool:
        """Whether items differ in the number of their tokens or places."""
        return None in self.shape


def make_layer(
    name: str,
    shape: tuple[int | None, ...],
    find_channel_axis: Callable[[], int | None],
    count_prefix_tokens: Callable[[], int],
    is_padded: bool,
) -> Layer:
    """Describe a layer by the shape of its value, without the shares of parameters and FLOPs.

    The channel axis of a map is looked for only where the shape leaves it open; tokens that do not come from the input
    are counted only in sequences of fixed length. `is_padded` says whether items are padded to the longest of a batch.
    """
    if len(shape) == 1:
        return Layer(name, shape, "vector")
    if shape[-1:] == (None,):
        return Layer(name, shape, "map", channel_axis=0, is_padded=is_padded)
    if None in shape:
        return Layer(name, shape, "tokens", is_padded=is_padded)
    channel_axis = find_channel_axis()
    if len(shape) == 2 and channel_axis == -1:
        return Layer(name, shape, "tokens", prefix_tokens=count_prefix_tokens())
    return Layer(name, shape, "map", channel_axis=channel_axis)


def guess_channel_axis(shape: tuple[int, ...]) -> int | None:
    """Guess the channel axis of a square map from its sides: the two that are equal are height and width.

    It is 0 for channels first, -1 for channels last, None where the sides leave it open.
    """
    if len(shape) != 3:
        return None
    first, middle, last = shape
    if first == middle != last:
        return -1
    if middle == last != first:
        return 0
    return None
