"""Tensor input, which needs no preprocessing: time series, rows of tables, spectrograms."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import InputError
from .input_spec import GraphInput, InputSpec, check_item_values

FLOAT = "float32"
DTYPES = (FLOAT, "int64", "int32")


@dataclass(frozen=True)
class TensorSpec(InputSpec):
    """Arrays of numbers of a fixed shape, passed to the model unchanged.

    Parameters
    ----------
    shape : tuple of int
        Shape of one item, without the batch: ``(features,)`` for a row of a table, ``(channels, time)`` for a series.
    dtype : {"float32", "int64", "int32"}
        Type of the numbers that the model takes.
    n_values : int
        Of integers, such as the categories that a ``torch.nn.Embedding`` looks up: they are from 0 to ``n_values - 1``.
        Items with others fail, and exported graphs are checked with random ones.

    Examples
    --------
    >>> TensorSpec((3, 500)).to_json()
    {'kind': 'tensor', 'shape': (3, 500)}
    >>> TensorSpec((5,), dtype="int64", n_values=100).to_json()
    {'kind': 'tensor', 'shape': (5,), 'dtype': 'int64', 'n_values': 100}
    """

    kind: ClassVar[str] = "tensor"
    input_name: ClassVar[str] = "input"
    """Name of the graph's input."""

    shape: tuple[int, ...]
    dtype: str = FLOAT
    n_values: int = 0

    def __post_init__(self) -> None:
        """Convert the sizes to plain integers, and refuse what describes no items."""
        object.__setattr__(self, "shape", to_sizes(self.shape))
        if self.dtype not in DTYPES:
            raise InputError(f"dtype={self.dtype!r}: expected one of {', '.join(DTYPES)}")
        if self.is_integer and self.n_values < 1:
            raise InputError(
                f"dtype={self.dtype!r} with n_values={self.n_values}: expected the number of values that the integers "
                "can have, such as the rows of the model's embedding"
            )
        if not self.is_integer and self.n_values:
            raise InputError(f"n_values={self.n_values}: expected none for {self.dtype}; it belongs to integers")

    @property
    def is_integer(self) -> bool:
        """Whether the model takes integers."""
        return self.dtype != FLOAT

    @property
    def graph_inputs(self) -> tuple[GraphInput, ...]:
        """The tensor, ``(batch, *shape)``."""
        return (GraphInput(self.input_name, self.dtype, ("batch", *self.shape)),)

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item."""
        return self.shape

    def to_json(self) -> dict[str, Any]:
        """Return the fields; those of integers only for integers."""
        fields: dict[str, Any] = {"kind": self.kind, "shape": self.shape}
        if self.is_integer:
            fields.update(dtype=self.dtype, n_values=self.n_values)
        return fields


def to_sizes(shape: Iterable[Any]) -> tuple[int, ...]:
    """Return the sizes of one item as plain integers; raise an InputError if they are none."""
    try:
        sizes = tuple(operator.index(side) for side in shape)
    except TypeError as error:
        raise InputError(
            f"shape={shape!r}: expected the sizes of one item, without the batch, as a tuple of integers. A free size "
            "is not possible: cut or pad the items to one length."
        ) from error
    if not sizes or min(sizes) < 1:
        raise InputError(f"shape={sizes}: expected the positive sizes of one item, without the batch")
    check_item_values(sizes)
    return sizes
