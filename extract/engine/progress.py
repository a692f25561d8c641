"""Progress of a run, for callers that want to draw it."""

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
        Number of inputs that are done, in this run or an earlier one.
    total : int
        Number of all inputs.
    computed : int
        Number of inputs that were computed in this run.
    stage : str
        What limits the speed so far: "reading", "decoding", "inference" or "writing"; "" before anything is computed.
    """

    done: int
    total: int
    computed: int = 0
    stage: str = ""


Listener: TypeAlias = Callable[[Progress], None]
"""Called when a run begins to compute, and after every input."""

_listener: ContextVar[Listener | None] = ContextVar("topwork_progress", default=None)


def report_progress(progress: Progress) -> None:
    """Report progress to the listener of the current context, if there is one; see :func:`watch_progress`."""
    listener = _listener.get()
    if listener is not None:
        listener(progress)


@contextlib.contextmanager
def watch_progress(listener: Listener) -> Iterator[None]:
    """Call a function with the progress of every run inside the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
