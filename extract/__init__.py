"""Cut, export, session, engine, store: from items on disk to feature matrices on disk.

The package is callable, because its name and the name of its main job are one in the public interface:
``topwork.extract(source, store)`` runs :func:`topwork.extract.job.extract`. See ``docs/decisions/0001``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run :func:`topwork.extract.job.extract`."""
        from .job import extract

        return extract(*args, **options)


sys.modules[__name__].__class__ = _CallablePackage
