"""What is being done, and how far it is, for callers that want to draw it: see :mod:`.progress_display`."""

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
StepListener: TypeAlias = Callable[[str], None]
"""Called with a few words when a step begins that may take long, such as "exporting timm:resnet50"."""

_listener: ContextVar[Listener | None] = ContextVar("topwork_progress", default=None)
_step_listener: ContextVar[StepListener | None] = ContextVar("topwork_step", default=None)


def report_progress(progress: Progress) -> None:
    """Report progress to the listener of the current context, if there is one; see :func:`watch_progress`."""
    listener = _listener.get()
    if listener is not None:
        listener(progress)


def report_step(step: str) -> None:
    """Report what is being done from now on to the listener of the current context, if there is one."""
    listener = _step_listener.get()
    if listener is not None:
        listener(step)


@contextlib.contextmanager
def watch_progress(listener: Listener, step_listener: StepListener | None = None) -> Iterator[None]:
    """Call functions with the progress of every run inside the block, and with every step that begins."""
    token = _listener.set(listener)
    step_token = _step_listener.set(step_listener)
    try:
        yield
    finally:
        _listener.reset(token)
        _step_listener.reset(step_token)
