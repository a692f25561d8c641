"""Long sounds as windows, each an item of its own; of a file on disk only the window is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ...errors import DecodeError
from ...hardware import available_cores
from .file import FileContent, check_regular
from .item import View
from .sound import Clip, Span, as_sound, measure_sound, read_clip

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...models.audio_spec import AudioSpec
    from .item import Item, Source

Length: TypeAlias = "int | Exception | None"
"""Samples of a sound; None for an item that is a window itself; or why it cannot be read."""
WINDOW_ID = re.compile(r"#t=(\d+\.\d+)$")
"""End of the id of a window."""


class WindowedSource:
    """The windows of a source's sounds, those of a sound one after the other.

    The window that starts after 12 seconds of item ``a`` is the item ``a#t=12.0``, with its label, split, size and
    time; it is held out with the other windows of ``a``, unless the source states a group. Every sample of a sound is
    in a window, but for an end that is shorter than the model takes. A sound that cannot be read is one item, which
    fails. To count the windows the header of each file is read; sounds that lie elsewhere are read once more.
    """

    def __init__(self, source: Source, spec: AudioSpec) -> None:
        self.source: Source = source
        self.spec = spec
        self.kind = spec.kind

    @property
    def ignored(self) -> int:
        """Number of files that are of another kind and were left out."""
        return self.source.ignored

    def __len__(self) -> int:
        """Return the number of windows."""
        return int(self._counts.sum())

    def __iter__(self) -> Iterator[Item]:
        """Yield the windows in the source's order."""
        for item, length in zip(self.source, self._lengths, strict=True):
            yield from divide(item, length, self.spec)

    @property
    def n_sounds(self) -> int:
        """Number of sounds."""
        return len(self._lengths)

    @property
    def sounds(self) -> NDArray[np.intp]:
        """Position of the sound of each window."""
        return np.repeat(np.arange(self.n_sounds), self._counts)

    @cached_property
    def _counts(self) -> NDArray[np.intp]:
        """Number of windows of each sound."""
        return np.array([count_windows(length, self.spec) for length in self._lengths], np.intp)

    @cached_property
    def _lengths(self) -> list[Length]:
        with ThreadPoolExecutor(available_cores()) as pool:
            return list(pool.map(partial(find_length, rate=self.spec.rate), self.source))


def is_windowed(source: Any) -> bool:
    """Return whether a source, or the one that it selects from, yields windows."""
    while source is not None and not isinstance(source, WindowedSource):
        source = getattr(source, "source", None)
    return source is not None


def name_sound(item_id: str) -> str:
    """Return the id of the sound of a window; that of any other item is its own."""
    return WINDOW_ID.sub("", item_id)


def find_start(item_id: str) -> float | None:
    """Return the seconds after which a window starts, by its id; None for other items."""
    found = WINDOW_ID.search(item_id)
    return None if found is None else float(found[1])


def find_length(item: Item, rate: int) -> Length:
    """Return the samples of a sound after resampling, None for a window, or the reason why it cannot be read."""
    if item.start is not None:
        return None
    try:
        content = locate_content(item.read)
        return measure_sound(content.content if isinstance(content, View) else content).count_samples(rate)
    except (DecodeError, OSError) as error:
        return error


def count_windows(length: Length, spec: AudioSpec) -> int:
    """Return the number of items that a sound becomes."""
    return sum(1 for _ in iterate_spans(length, spec)) if isinstance(length, int) else 1


def iterate_spans(n_samples: int, spec: AudioSpec) -> Iterator[Span]:
    """Yield the windows of a sound, whose samples are counted at the model's rate; the last may be shorter."""
    window, hop = spec.window_samples, spec.hop_samples
    for start in range(0, max(0, n_samples - window) + hop, hop):
        count = min(window, n_samples - start)
        if start == 0 or count >= spec.shortest:
            yield Span(start, count)


def divide(item: Item, length: Length, spec: AudioSpec) -> Iterator[Item]:
    """Yield the windows of a sound as items; one that cannot be read fails for the reason that was found."""
    if isinstance(length, Exception):
        yield replace(item, read=partial(raise_error, length))
        return
    if length is None:
        yield item
        return
    content = item.read
    if not isinstance(content, FileContent):
        content = SharedContent(item.read, count_windows(length, spec))
    for span in iterate_spans(length, spec):
        seconds = span.start / spec.rate
        yield replace(
            item,
            id=f"{item.id}#t={format_seconds(seconds)}",
            read=partial(read_window, content, spec.rate, span),
            held_out_with=item.held_out_with or item.id,
            start=seconds,
        )


def raise_error(error: Exception) -> Any:
    """Fail as a sound did when it was measured."""
    raise error


def format_seconds(seconds: float) -> str:
    """Return seconds as text: ``12.0``, ``0.48``."""
    text = f"{seconds:.6f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def read_window(content: Callable[[], Any], rate: int, span: Span) -> Clip | View:
    """Return a window of a sound, or of a view of one; of a file on disk nothing else is read."""
    located = locate_content(content)
    if isinstance(located, View):
        return replace(located, content=read_clip(located.content, rate, span))
    return read_clip(located, rate, span)


def locate_content(read: Callable[[], Any]) -> Any:
    """Return the path of a file on disk, or else the content of a sound, or of a view of one."""
    if isinstance(read, FileContent):
        check_regular(read.path)
        return read.path
    content = read()
    return replace(content, content=as_sound(content.content)) if isinstance(content, View) else as_sound(content)


class SharedContent:
    """The content of a sound, read by the first of its windows and kept until the last one has it."""

    def __init__(self, read: Callable[[], Any], n_windows: int) -> None:
        self._read = read
        self._n_windows = n_windows
        self._remaining = n_windows
        self._content: Any = None
        self._lock = Lock()

    def __call__(self) -> Any:
        """Return the content."""
        with self._lock:
            if self._content is None:
                self._content = self._read()
            content = self._content
            self._remaining -= 1
            if not self._remaining:
                self._content = None
                self._remaining = self._n_windows
            return content
