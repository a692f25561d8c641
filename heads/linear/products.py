"""Products of matrices by whichever of torch's libraries is the fastest."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def product(one: Tensor, other: Tensor) -> Tensor:
    """Return the product of two matrices.

    On processors that are not Intel's, torch hands float32 to a library that leaves half of their vector units idle;
    oneDNN, which torch brings along for its compiled graphs, does not.

    Parameters
    ----------
    one : Tensor of shape (m, k)
    other : Tensor of shape (k, n)
    """
    import torch

    linear = _linear() if one.device.type == "cpu" and one.dtype == torch.float32 and not _is_intel() else None
    if linear is None:
        return one @ other
    found: Tensor = linear(_dense(one), _dense(other).T, None, "none", [], "")
    return found


def _dense(matrix: Tensor) -> Tensor:
    """Return a matrix without gaps between its rows or columns: with them oneDNN is a hundred times slower."""
    return matrix if matrix.is_contiguous() or matrix.T.is_contiguous() else matrix.contiguous()


@cache
def _is_intel() -> bool:
    """Tell whether the processor is Intel's, as far as the system says."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "GenuineIntel" in cpuinfo.read_text()


@cache
def _linear() -> Any:
    """Return oneDNN's product with a transposed matrix, or None where this torch has none that works."""
    import torch

    try:
        linear = torch.ops.mkldnn._linear_pointwise
        one, other = torch.ones(3, 2), torch.ones(4, 2)
        works = torch.equal(linear(one, other, None, "none", [], ""), one @ other.T)
    except (AttributeError, RuntimeError, TypeError):
        return None
    return linear if works else None
