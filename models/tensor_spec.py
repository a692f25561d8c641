"""Inputs that need no preprocessing: time series, tables, spectrograms."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ..errors import InputError
from .input_overrides import InputOverrides


@dataclass(frozen=True)
class TensorSpec:
    """Floats of a fixed shape, handed to the network as they are.

    Parameters
    ----------
    shape : tuple of int
        Of one item, without the batch: ``(features,)`` for a row of a table, ``(channels, time)`` for a series.

    Examples
    --------
    >>> TensorSpec((3, 500)).to_json()
    {'kind': 'tensor', 'shape': (3, 500)}
    """

    kind: ClassVar[str] = "tensor"

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Make numbers plain, and refuse shapes without values."""
        object.__setattr__(self, "shape", tuple(int(side) for side in self.shape))
        if not self.shape or min(self.shape) < 1:
            raise InputError(f"shape={self.shape}: expected the positive sizes of one item, without the batch")

    def override(self, changes: InputOverrides) -> TensorSpec:
        """Return the specification; it has nothing that could be changed."""
        changes.require_only(kind=self.kind)
        return self

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that :func:`topwork.models.input_spec.input_spec_from_json` turns back."""
        return {"kind": self.kind, **asdict(self)}

    def files(self) -> dict[str, bytes]:
        """Return what must travel with the graph: nothing."""
        return {}
