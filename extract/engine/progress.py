"""Progress of whatever is running, for whoever wants to draw it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import NamedTuple, TypeAlias


class Progress(NamedTuple):
    """How far a run is.

    Parameters
    ----------
    done : int
        Inputs that are done, in this run or an earlier one.
    total : int
        All inputs.
    computed : int
        Those of the done ones that were worked on in this run.
    stage : str
        What limits the speed so far: "reading", "decoding", "inference" or "writing"; "" before anything is computed.
    """

    done: int
    total: int
    computed: int = 0
    stage: str = ""


Listener: TypeAlias = Callable[[Progress], None]
"""Is called when a run begins to compute, and after every input."""

_listener: ContextVar[Listener | None] = ContextVar("topwork_progress", default=None)


def report(progress: Progress) -> None:
    """Tell how far the present run is."""
    listener = _listener.get()
    if listener is not None:
        listener(progress)


@contextlib.contextmanager
def watching(listener: Listener) -> Iterator[None]:
    """Have a function called with the progress of what runs inside the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
