"""Public names of packages that are imported on first use, so that importing a package costs nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the ``__getattr__``, ``__dir__`` and ``__all__`` of a package (PEP 562), given its ``__name__``.

    `modules` holds for each public name the module that defines it, relative to the package.

    Examples
    --------
    >>> resolve, list_names, exported = lazy_exports("topwork", {"digest": ".identity"})
    >>> resolve("digest").__module__, exported
    ('topwork.identity', ['digest'])
    """

    def resolve(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name], package), name)

    def list_names() -> list[str]:
        return sorted(modules)

    return resolve, list_names, sorted(modules)
