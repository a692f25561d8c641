"""A backbone that is an ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .backbone import Backbone


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class OnnxBackbone(Backbone):
    """A network in an ONNX file; neither cutting nor running it needs torch.

    Parameters
    ----------
    path : Path
        The file. Its first input takes the normalised float32 images ``(batch, 3, height, width)``, the token ids, or
        the tensor.
    """

    path: Path
