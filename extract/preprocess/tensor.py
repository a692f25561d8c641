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
    """Numeric arrays, or the bytes of ``.npy`` files, to float32 of one shape."""

    items_per_call = 1

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec

    def prepare(self, content: Any) -> Prepared:
        """Return the item as float32; anything but finite numbers of the right shape is refused."""
        array = _load_npy(content) if isinstance(content, bytes) else _as_array(content)
        is_numeric = array.dtype.kind in "biuf"
        if array.shape != self.spec.shape or not is_numeric:
            raise DecodeError(f"{array.dtype} of shape {array.shape}; expected numbers of shape {self.spec.shape}")
        with np.errstate(over="ignore"):
            values = array.astype(np.float32)
        if not np.isfinite(values).all():
            raise DecodeError("values that are not finite")
        return Prepared(values)

    def prepare_all(self, contents: Sequence[Any]) -> list[Prepared | DecodeError]:
        """Return for each item what :meth:`prepare` returns or raises."""
        return prepare_each(self.prepare, contents)

    def collate(self, arrays: Sequence[NDArray[Any]]) -> Feed:
        """Return float32 ``(batch, *shape)``."""
        return {self.spec.input_name: np.stack(arrays)}

    def synthetic(self, count: int, generator: np.random.Generator) -> list[NDArray[np.float32]]:
        """Return arrays of numbers from a standard normal distribution."""
        return list(generator.standard_normal((count, *self.spec.shape), dtype=np.float32))

    def random_feeds(self, batch: int, generator: np.random.Generator) -> dict[str, Feed]:
        """Return numbers from a standard normal distribution."""
        values = generator.standard_normal((batch, *self.spec.shape), dtype=np.float32)
        return {"random": {self.spec.input_name: values}}


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
