"""A line on a terminal or in a notebook: the step that is being done, or a bar of items with speed and time left."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .progress import Progress, watch_progress

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.spinner import Spinner

P = ParamSpec("P")
R = TypeVar("R")

FIRST_STEP = "starting"
DRAWINGS_PER_SECOND = 8
BAR_LETTERS = 24
"""Length of the bar in a notebook."""


class ProgressDisplay:
    """The line; it is drawn on standard error, and removed whenever something else is printed.

    Parameters
    ----------
    title : str
        What is shown before the bar.
    delay : float
        Seconds before it appears, so that short commands show nothing.
    """

    def __init__(self, title: str, delay: float = 0.0) -> None:
        self.title = title
        self._step = FIRST_STEP
        self._progress: Progress | None = None
        self._pace = Pace(time.monotonic())
        self._state = ""
        self._spinner: Spinner | None = None
        self._live: Live | NotebookLine | None = None
        self._is_closed = False
        self._is_hidden = False
        self._lock = threading.RLock()
        self._timer = threading.Timer(delay, self._draw)
        self._timer.daemon = True
        self._timer.start()

    def show_step(self, step: str) -> None:
        """Show what is being done from now on."""
        with self._lock:
            self._step = step
            self._progress = None
            self._resume()

    def show_items(self, progress: Progress) -> None:
        """Show how many items are done."""
        with self._lock:
            pace = self._pace.describe(progress, now=time.monotonic())
            self._progress = progress
            self._state = f"{progress.done}/{progress.total} {pace}".rstrip()
            self._resume()

    def hide(self) -> None:
        """Remove the line until there is something new to show."""
        with self._lock:
            self._is_hidden = True
            if self._live is not None:
                self._live.stop()

    def close(self) -> None:
        """Remove the line for good."""
        with self._lock:
            self._is_closed = True
            self._timer.cancel()
            self.hide()

    def _draw(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._live = NotebookLine(self._describe) if is_in_notebook() else self._make_live()
            if not self._is_hidden:
                self._live.start(refresh=True)

    def _make_live(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        return Live(
            get_renderable=self._render,
            console=Console(stderr=True),
            transient=True,
            refresh_per_second=DRAWINGS_PER_SECOND,
            redirect_stdout=False,
        )

    def _describe(self) -> str:
        """Return the line as text."""
        if self._progress is None:
            return f"{self.title}: {self._step}"
        done = BAR_LETTERS * self._progress.done // max(1, self._progress.total)
        return f"{self.title} {'█' * done}{'░' * (BAR_LETTERS - done)} {self._state}"

    def _resume(self) -> None:
        self._is_hidden = False
        if self._live is not None and not self._is_closed:
            self._live.start()

    def _render(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table

        progress = self._progress
        if progress is None:
            text = f"{self.title}: {self._step}"
            if self._spinner is None:
                self._spinner = Spinner("dots")
            self._spinner.update(text=text)
            return self._spinner
        line = Table.grid(expand=True, padding=(0, 1, 0, 0))
        line.add_column()
        line.add_column(ratio=1)
        line.add_column()
        line.add_row(self.title, ProgressBar(total=progress.total, completed=progress.done), self._state)
        return line


class NotebookLine:
    """An output of a notebook's cell that is one line of text, and is replaced whenever there is news."""

    def __init__(self, describe: Callable[[], str]) -> None:
        self.describe = describe
        self._handle: Any = None
        self._drawn_at = 0.0

    def start(self, refresh: bool = False) -> None:
        """Show the line as it is now; if it was drawn a moment ago, only with `refresh`."""
        now = time.monotonic()
        if refresh or now - self._drawn_at > 1 / DRAWINGS_PER_SECOND:
            self._drawn_at = now
            self._put(self.describe())

    def stop(self) -> None:
        """Empty the line, if there is one."""
        if self._handle is not None:
            self._put("")

    def _put(self, text: str) -> None:
        from IPython.display import display

        content = {"text/plain": text}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(content, raw=True)


_display: ContextVar[ProgressDisplay | None] = ContextVar("topwork_display", default=None)


@contextlib.contextmanager
def show_progress(title: str, *, delay: float = 0.0) -> Iterator[None]:
    """Show the steps and the progress of what is done inside the block, on a terminal or in a notebook.

    A block within another one that shows progress adds nothing.

    Parameters
    ----------
    title : str
        What is shown before the bar.
    delay : float
        Seconds before anything is shown.
    """
    if _display.get() is not None or not can_draw():
        yield
        return
    display = ProgressDisplay(title, delay)
    token = _display.set(display)
    try:
        with watch_progress(display.show_items, display.show_step):
            yield
    finally:
        _display.reset(token)
        display.close()


def shows_progress(title: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for functions with an argument ``progress``, and methods of an object with that attribute.

    Where it is True they show their progress.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def showing(*arguments: P.args, **named: P.kwargs) -> R:
            is_shown = named.get("progress", getattr(arguments[0], "progress", False) if arguments else False)
            if is_shown is not True:
                return function(*arguments, **named)
            if "progress" in named:
                named["progress"] = None
            with show_progress(title):
                return function(*arguments, **named)

        return showing

    return decorate


def hide_progress() -> None:
    """Remove the line that shows progress, if there is one, before something else is printed."""
    display = _display.get()
    if display is not None:
        display.hide()


def can_draw() -> bool:
    """Return whether standard error is a terminal, or the process is that of a notebook."""
    return sys.stderr.isatty() or is_in_notebook()


def is_in_notebook() -> bool:
    """Return whether the process is that of a notebook: its interactive shell has a kernel."""
    interactive = sys.modules.get("IPython")
    shell = None if interactive is None else interactive.get_ipython()
    return getattr(shell, "kernel", None) is not None and not sys.stderr.isatty()


class Pace:
    """Speed and remaining time of a run; items that were in the store before do not count. Times are in seconds."""

    def __init__(self, started: float) -> None:
        self.started = started

    def describe(self, progress: Progress, now: float) -> str:
        """Return speed, limiting stage and remaining time in about 45 characters."""
        if not progress.computed:
            self.started = now  # loading the graph and skipping what is in the store are not computing
            return ""
        elapsed = max(now - self.started, 1e-9)
        items_per_second = progress.computed / elapsed
        seconds_left = round((progress.total - progress.done) / items_per_second)
        minutes_left, seconds = divmod(seconds_left, 60)
        hours, minutes = divmod(minutes_left, 60)
        speed = format_rate(items_per_second)
        return f"{speed}, limit: {progress.stage}, {hours}:{minutes:02}:{seconds:02} left"


def format_rate(items_per_second: float) -> str:
    """Return a throughput for people, such as ``3.2 items/s``."""
    decimals = 0 if items_per_second >= 10 else 1
    return f"{items_per_second:.{decimals}f} items/s"
