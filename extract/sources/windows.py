"""Long sounds as windows, each an item of its own; of a file on disk only the window is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DecodeError
from ...hardware import available_cores
from .file import FileContent, check_regular
from .sound import Clip, Span, as_sound, measure_sound, read_clip

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...models.audio_spec import AudioSpec
    from .item import Item, Source

WINDOW_ID = re.compile(r"#t=(\d+\.\d+)$")
"""End of the id of a window."""


class WindowedSource:
    """The windows of a source's sounds, those of a sound one after the other.

    The window that starts after 12 seconds of item ``a`` is the item ``a#t=12.0``, with its label, split, size and
    time; it is held out with the other windows of ``a``, unless the source states a group. Every sample of a sound is
    in a window; a window that has nothing but what the one before it has is left out. A sound that cannot be read is
    one item, which fails. To count the windows the header of each file is read; sounds that lie elsewhere are read once
    more.
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
        return sum(1 if spans is None else len(spans) for spans in self._spans)

    def __iter__(self) -> Iterator[Item]:
        """Yield the windows in the source's order."""
        for item, spans in zip(self.source, self._spans, strict=True):
            if spans is None:
                yield item
            else:
                yield from divide(item, spans, self.spec.rate)

    @property
    def n_sounds(self) -> int:
        """Number of sounds."""
        return len(self._spans)

    @property
    def sounds(self) -> NDArray[np.intp]:
        """Position of the sound of each window."""
        return np.repeat(np.arange(self.n_sounds), [1 if spans is None else len(spans) for spans in self._spans])

    @cached_property
    def _spans(self) -> list[list[Span] | None]:
        """The windows of each item; None for one that is a window, or cannot be read."""
        with ThreadPoolExecutor(available_cores()) as pool:
            return list(pool.map(partial(find_spans, spec=self.spec), self.source))


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


def find_spans(item: Item, spec: AudioSpec) -> list[Span] | None:
    """Return the windows of a sound, None for an item that is a window itself, or cannot be read."""
    if item.start is not None:
        return None
    try:
        n_samples = measure_sound(locate_content(item.read)).count_samples(spec.rate)
    except (DecodeError, OSError):
        return None
    return list_spans(n_samples, spec)


def list_spans(n_samples: int, spec: AudioSpec) -> list[Span]:
    """Return the windows of a sound of so many samples of the model's rate; the last may be shorter than the others."""
    window, hop = spec.window_samples, spec.hop_samples
    spans = [Span(0, min(window, n_samples))]
    while spans[-1].start + window < n_samples:
        start = spans[-1].start + hop
        spans.append(Span(start, min(window, n_samples - start)))
    if len(spans) > 1 and spans[-1].count < spec.shortest:
        del spans[-1]
    return spans


def divide(item: Item, spans: list[Span], rate: int) -> Iterator[Item]:
    """Yield the windows of a sound as items."""
    content = item.read if isinstance(item.read, FileContent) else SharedContent(item.read, len(spans))
    for span in spans:
        seconds = span.start / rate
        yield replace(
            item,
            id=f"{item.id}#t={format_seconds(seconds)}",
            read=partial(read_window, content, rate, span),
            held_out_with=item.held_out_with or item.id,
            start=seconds,
        )


def format_seconds(seconds: float) -> str:
    """Return seconds as text: ``12.0``, ``0.48``."""
    text = f"{seconds:.6f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def read_window(content: Callable[[], Any], rate: int, span: Span) -> Clip:
    """Return a window of a sound; of a file on disk nothing else is read."""
    return read_clip(locate_content(content), rate, span)


def locate_content(read: Callable[[], Any]) -> Any:
    """Return the path of a file on disk, or else the content of a sound."""
    if isinstance(read, FileContent):
        check_regular(read.path)
        return read.path
    return as_sound(read())


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
