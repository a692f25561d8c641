"""Operators are declared only where torchvision's own library does not load, and its import then works."""

from __future__ import annotations

import subprocess
import sys

import pytest

DECLARE = "import torch, topwork.models.torchvision_operators as own\nlibrary = own.ensure_torchvision_operators()\n"


def run(code: str) -> str:
    """Run code in an interpreter of its own: a declaration lasts as long as its process."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_package_that_needs_the_operators_is_imported(package: str) -> None:
    assert run(f"{DECLARE}import {package}\nprint({package}.__name__, hasattr(torch.ops.torchvision, 'nms'))") == (
        f"{package} True"
    )


def test_second_call_declares_nothing_again() -> None:
    assert run(f"{DECLARE}print(own.ensure_torchvision_operators() is library)") == "True"


def test_operators_that_are_there_are_left_alone() -> None:
    there = "import torch\nkept = torch.library.Library('torchvision', 'DEF')\nkept.define('nms(Tensor x) -> Tensor')\n"
    assert run(f"{there}{DECLARE}print(library, torch.ops.torchvision.nms.default._schema)") == (
        "None torchvision::nms(Tensor x) -> Tensor"
    )


def test_declarations_are_made_exactly_where_the_compiled_library_fails() -> None:
    real = (
        "has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key('torchvision::nms', 'CPU')\n"
        "print(has_kernel is (library is None))"
    )
    assert run(DECLARE + real) == "True"
