"""Products of matrices by the faster of torch's libraries, measured where it matters."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MIN_MULTIPLICATIONS = 2**26
"""Smaller products do not need the faster library, and are not worth measuring it."""
MIN_SPEEDUP = 1.3
"""So much faster oneDNN must be: a lead that noise could turn would make results differ from run to run."""
N_MEASUREMENTS = 5


def multiply_matrices(one: Tensor, other: Tensor) -> Tensor:
    """Return the product of two matrices.

    On some processors that are not Intel's, torch multiplies float32 with a library that uses half of their vector
    units; oneDNN, which torch contains for its compiled graphs, uses all.
    """
    import torch

    linear = None
    is_float32_on_cpu = one.device.type == "cpu" and one.dtype == torch.float32
    if is_float32_on_cpu and one.numel() * other.shape[1] >= MIN_MULTIPLICATIONS:
        linear = find_faster_linear()
    if linear is None:
        return one @ other
    return multiply_by_onednn(linear, one, other)


def multiply_by_onednn(linear: Any, one: Tensor, other: Tensor) -> Tensor:
    """Return the product by oneDNN, for which matrices must be dense."""
    result: Tensor = linear(_to_dense(one), _to_dense(other).T, None, "none", [], "")
    return result


def _to_dense(matrix: Tensor) -> Tensor:
    """Return a matrix without gaps between its rows or columns: with them oneDNN is a hundred times slower."""
    is_dense = matrix.is_contiguous() or matrix.T.is_contiguous()
    return matrix if is_dense else matrix.contiguous()


@cache
def find_faster_linear() -> Any:
    """Return oneDNN's product with a transposed matrix, or None where torch has none that works and is faster.

    One thread is measured by its own time: what else the machine does must not decide.
    """
    import torch

    one = torch.ones(384, 256)
    other = torch.ones(1024, 256).T
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        linear = torch.ops.mkldnn._linear_pointwise
        if not torch.equal(multiply_by_onednn(linear, one, other), one @ other):
            return None
        seconds_of_onednn = measure(lambda: multiply_by_onednn(linear, one, other))
        is_faster = measure(lambda: one @ other) >= MIN_SPEEDUP * seconds_of_onednn
        return linear if is_faster else None
    except (AttributeError, RuntimeError, TypeError):
        return None
    finally:
        torch.set_num_threads(n_threads)


def measure(multiply: Callable[[], Tensor]) -> float:
    """Return the shortest time of a thread for a product, in seconds, of several runs."""
    found = []
    for _ in range(N_MEASUREMENTS):
        start = time.thread_time()
        multiply()
        found.append(time.thread_time() - start)
    return min(found)
