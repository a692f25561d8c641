"""Products of matrices: the same by both of torch's libraries, whichever is chosen."""

from __future__ import annotations

import pytest
import torch
from topwork.heads.linear import matrix_product


@pytest.mark.parametrize("min_speedup", [0.0, 1e9])
def test_products_are_those_of_torch(min_speedup: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_product, "MIN_SPEEDUP", min_speedup)
    monkeypatch.setattr(matrix_product, "MIN_MULTIPLICATIONS", 0)
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(40, 30, generator=generator)
    other = torch.randn(50, 30, generator=generator)
    n_threads = torch.get_num_threads()
    matrix_product.find_faster_linear.cache_clear()
    try:
        for left, right in ((one, other.T), (one[::2], other.T), (one, other.T[:, ::3])):
            expected = (left.double() @ right.double()).float()
            torch.testing.assert_close(matrix_product.multiply_matrices(left, right), expected, rtol=1e-5, atol=1e-5)
    finally:
        matrix_product.find_faster_linear.cache_clear()
    assert torch.get_num_threads() == n_threads
