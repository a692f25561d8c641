"""Progress of whatever is running, for whoever wants to draw it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Progress = Callable[[int, int], None]
"""Takes the number of inputs done, and their total."""

_listener: ContextVar[Progress | None] = ContextVar("topwork_progress", default=None)


def report(done: int, total: int) -> None:
    """Tell how far the present run is."""
    listener = _listener.get()
    if listener is not None:
        listener(done, total)


@contextlib.contextmanager
def watching(listener: Progress) -> Iterator[None]:
    """Have a function called with the progress of what runs inside the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
