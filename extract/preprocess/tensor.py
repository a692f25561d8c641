"""Tensor input: checked, and otherwise left unchanged."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DecodeError, reason
from ...models.tensor_spec import TensorSpec
from .preprocessor import Feed, Prepared, prepare_each

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TensorPreprocessor:
    """Numeric arrays, or the bytes of ``.npy`` files, to the shape and data type that a model takes."""

    items_per_call = 1

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec

    def prepare(self, content: Any) -> Prepared:
        """Return the item in the model's type; anything but finite numbers of the right shape and range is refused."""
        array = _load_npy(content) if isinstance(content, bytes) else _as_array(content)
        is_numeric = array.dtype.kind in "biuf"
        if array.shape != self.spec.shape or not is_numeric:
            raise DecodeError(f"{array.dtype} of shape {array.shape}; expected numbers of shape {self.spec.shape}")
        if self.spec.is_integer:
            self._check_integers(array)
        with np.errstate(over="ignore"):
            values = array.astype(self.spec.dtype)
        if not np.isfinite(values).all():
            raise DecodeError("values that are not finite")
        return Prepared(values)

    def _check_integers(self, array: NDArray[Any]) -> None:
        """Raise a DecodeError for numbers that are no integers from 0 to ``n_values - 1``."""
        last = self.spec.n_values - 1
        within = (array >= 0) & (array <= last) & (array == np.floor(array))
        if not within.all():
            raise DecodeError(f"the value {array[~within][0]}; expected integers from 0 to {last} (n_values)")

    def prepare_all(self, contents: Sequence[Any]) -> list[Prepared | DecodeError]:
        """Return for each item what :meth:`prepare` returns or raises."""
        return prepare_each(self.prepare, contents)

    def collate(self, arrays: Sequence[NDArray[Any]]) -> Feed:
        """Return ``(batch, *shape)``."""
        return {self.spec.input_name: np.stack(arrays)}

    def synthetic(self, count: int, generator: np.random.Generator) -> list[NDArray[Any]]:
        """Return arrays of random numbers."""
        return list(self._draw(count, generator))

    def random_feeds(self, batch: int, generator: np.random.Generator) -> dict[str, Feed]:
        """Return one batch of random numbers."""
        return {"random": {self.spec.input_name: self._draw(batch, generator)}}

    def _draw(self, count: int, generator: np.random.Generator) -> NDArray[Any]:
        """Return numbers from a standard normal distribution, or any of the integers that the model takes."""
        shape = (count, *self.spec.shape)
        if self.spec.is_integer:
            return generator.integers(self.spec.n_values, size=shape, dtype=self.spec.dtype)
        return generator.standard_normal(shape, dtype=np.float32)


def _load_npy(content: bytes) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        return array
    except Exception as error:  # a damaged header ends in errors of many kinds
        raise DecodeError(f"not an .npy file of numbers: {reason(error)}") from error


def _as_array(content: Any) -> NDArray[Any]:
    try:
        return np.asarray(content)
    except ValueError as error:
        raise DecodeError(f"a {type(content).__name__} that is no array: {reason(error)}") from error
