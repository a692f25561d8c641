"""One legal cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LAST = "last"
"""What feeds the network's own classifier, or its output if it has none."""

Kind = Literal["map", "tokens", "vector"]


@dataclass(frozen=True)
class Layer:
    """One legal cut.

    Parameters
    ----------
    name : str
        Dotted name of the module whose output it is; ``name@2`` for its second call; ``last`` for what feeds the
        network's own classifier.
    shape : tuple of int or None
        Of one item's value, without the batch; None for the tokens of a text, of which there may be any number.
    kind : {"map", "tokens", "vector"}
        A feature map, a sequence of tokens, or one vector.
    channel_axis : int or None
        Where the channels of a map are, in `shape`: 0 for channels first, -1 for channels last, None if unknown.
    prefix_tokens : int
        Tokens at the start of a sequence that are not of the input: class, distillation and register tokens.
    parameters, flops : float
        Share of the network's parameters, and of its multiplications and additions, that the cut keeps.
    single_tensor : bool
        All data of the network flows through this value: what lies above can be computed from it alone.
    """

    name: str
    shape: tuple[int | None, ...]
    kind: Kind
    channel_axis: int | None = None
    prefix_tokens: int = 0
    parameters: float = 0.0
    flops: float = 0.0
    single_tensor: bool = False

    @property
    def is_masked(self) -> bool:
        """Whether it has a row for each token of a text: the attention mask says which of them count."""
        return self.shape[0] is None


def channels_by_sides(shape: tuple[int, ...]) -> int | None:
    """Find the channel axis of a map by its sides: two that are equal are height and width."""
    if len(shape) != 3:
        return None
    first, middle, last = shape
    if first == middle != last:
        return -1
    return 0 if middle == last != first else None
