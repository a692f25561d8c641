"""Let torchvision be imported where its compiled operators cannot be loaded.

torchvision registers fake kernels for its operators when it is imported. Its wheel on the package index is built
against a CUDA build of torch; beside a CPU-only torch the library with the operators does not load, and
``import torchvision`` (and with it timm and parts of transformers) ends with "operator torchvision::nms does not
exist". No classification model calls these operators: declaring their schemas is enough. Where the operators
load, this module changes nothing.
"""

from __future__ import annotations

import contextlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@cache
def ensure_torchvision_operators() -> Any:
    """Declare the operators that torchvision's import needs, if its own library cannot.

    Return the declarations, a ``torch.library.Library`` that lives as long as this cached value; None if none were
    needed.
    """
    import torch

    if importlib.util.find_spec("torchvision") is None or load_operators():
        return None
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)
    return library


def load_operators() -> bool:
    """Load torchvision's compiled library as torchvision itself would, and return whether it has the operators."""
    import torch

    if hasattr(torch.ops.torchvision, "nms"):
        return True
    found = importlib.util.find_spec("torchvision")
    assert found is not None
    assert found.origin is not None
    for library in sorted(Path(found.origin).parent.glob("_C.*")):
        with contextlib.suppress(OSError, RuntimeError):
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    return hasattr(torch.ops.torchvision, "nms")
