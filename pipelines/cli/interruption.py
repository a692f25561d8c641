"""Signals that end a command: it stops cleanly, says what is kept and how to go on, and ends as the signal does."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

ENDING_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
RESUMED = {
    "extract": "the features that were computed are in the store",
    "retry": "the features that were computed are in the store",
    "predict": "the rows that were written are kept, beside --out",
}
"""What commands keep that the same command goes on with."""


class Interruption:
    """What ended a command; `number` is 0 until a signal does."""

    def __init__(self) -> None:
        self.number = 0

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Unwind the command; a second signal ends it at once."""
        self.number = number
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    def describe(self, arguments: Sequence[str]) -> str:
        """Return what is kept of a command, given what follows its name on the command line."""
        name = signal.Signals(self.number).name
        command = next((RESUMED[word] for word in arguments[:2] if word in RESUMED), None)
        if command is not None:
            return f"ended by {name}; {command}: run the same command to go on"
        kept = "; the features that were computed are in the store" if "--store" in arguments else ""
        if any(argument.startswith("--checkpoint") for argument in arguments):
            kept += "; training goes on after the last epoch that was complete"
        return f"ended by {name}; no result was written{kept}: run the same command again"

    def end_process(self) -> None:
        """End the process as the signal does, so that its parent sees why; Ctrl-C ends with its exit code."""
        if self.number and self.number != signal.SIGINT:
            os.kill(os.getpid(), self.number)


@contextlib.contextmanager
def catch_signals() -> Iterator[Interruption]:
    """Turn signals into a :exc:`KeyboardInterrupt` in the block; those that are ignored, as by nohup, stay ignored."""
    interruption = Interruption()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in ENDING_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, interruption.stop)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) == interruption.stop:
                signal.signal(number, handler)
