"""Products of matrices by the fastest of torch's libraries."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

CPU_INFO = Path("/proc/cpuinfo")


def multiply_matrices(one: Tensor, other: Tensor) -> Tensor:
    """Return the product of two matrices.

    On processors that are not Intel's, torch multiplies float32 with a library that uses half of their vector units;
    oneDNN, which torch contains for its compiled graphs, uses all.
    """
    import torch

    linear = None
    if one.device.type == "cpu" and one.dtype == torch.float32 and not is_intel():
        linear = find_onednn_linear()
    if linear is None:
        return one @ other
    result: Tensor = linear(_to_dense(one), _to_dense(other).T, None, "none", [], "")
    return result


def _to_dense(matrix: Tensor) -> Tensor:
    """Return a matrix without gaps between its rows or columns: with them oneDNN is a hundred times slower."""
    is_dense = matrix.is_contiguous() or matrix.T.is_contiguous()
    return matrix if is_dense else matrix.contiguous()


@cache
def is_intel() -> bool:
    """Check whether the processor is Intel's, as far as the system reports it."""
    return CPU_INFO.is_file() and "GenuineIntel" in CPU_INFO.read_text()


@cache
def find_onednn_linear() -> Any:
    """Return oneDNN's product with a transposed matrix, or None where torch has none that works."""
    import torch

    try:
        linear = torch.ops.mkldnn._linear_pointwise
        one = torch.ones(3, 2)
        other = torch.ones(4, 2)
        works = torch.equal(linear(one, other, None, "none", [], ""), one @ other.T)
    except (AttributeError, RuntimeError, TypeError):
        return None
    return linear if works else None
