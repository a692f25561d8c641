"""One self-contained HTML page about a bundle, its evaluation and its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .reporting import write_report

__all__ = ["write_report"]

__getattr__, __dir__, _ = lazy_exports(__name__, {"write_report": ".reporting"})
