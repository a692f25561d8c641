"""Tensor input, which needs no preprocessing: time series, rows of tables, spectrograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import InputError
from .input_spec import GraphInput, InputSpec


@dataclass(frozen=True)
class TensorSpec(InputSpec):
    """Float32 arrays of a fixed shape, passed to the model unchanged.

    Parameters
    ----------
    shape : tuple of int
        Shape of one item, without the batch: ``(features,)`` for a row of a table, ``(channels, time)`` for a series.

    Examples
    --------
    >>> TensorSpec((3, 500)).to_json()
    {'kind': 'tensor', 'shape': (3, 500)}
    """

    kind: ClassVar[str] = "tensor"
    input_name: ClassVar[str] = "input"
    """Name of the graph's input."""

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Convert the sizes to plain integers, and refuse shapes without values."""
        object.__setattr__(self, "shape", tuple(int(side) for side in self.shape))
        if not self.shape or min(self.shape) < 1:
            raise InputError(f"shape={self.shape}: expected the positive sizes of one item, without the batch")

    @property
    def graph_inputs(self) -> tuple[GraphInput, ...]:
        """The tensor, float32 ``(batch, *shape)``."""
        return (GraphInput(self.input_name, "float32", ("batch", *self.shape)),)

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item."""
        return self.shape
