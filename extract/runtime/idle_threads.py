"""Threads that OpenVINO keeps when a session has ended, which the child of a fork must not be given.

OpenVINO gives the threads of an ended session to the next one with the same properties. In the child of a fork they do
not run, and it would wait for them for ever. Before a fork, sessions of a tiny graph therefore take all that are idle.
The parent ends these sessions after the fork; the child keeps them, and so its own sessions get threads of their own.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from .process_runtime import keep_for_ever

PARTS_PER_SESSION = 4
"""Graphs that one session may consist of, each with threads of its own: in two precisions, or in several subgraphs."""
SMALL_GRAPH = bytes.fromhex(
    "08093a87010a1f0a05696e7075740a06666163746f7212066f757470757422064d61744d756c1205736d616c6c2a200802080210014206666163"
    "746f724a100000803f00000000000000000000803f5a1c0a05696e70757412130a110801120d0a07120562617463680a020802621d0a066f7574"
    "70757412130a110801120d0a07120562617463680a02080242040a001014"
)
"""An ONNX file: the product of ``input``, float32 ``(batch, 2)``, and a constant matrix."""


@dataclass
class SessionCount:
    """How many sessions with the same properties are open, and how many were at the same time."""

    open_small: Callable[[bytes], Any]
    n_open: int = 0
    n_most: int = 0

    def begin(self) -> None:
        """Count a session that was opened."""
        self.n_open += 1
        self.n_most = max(self.n_most, self.n_open)

    def end(self) -> None:
        """Count a session that has ended."""
        self.n_open -= 1

    def take_idle_threads(self) -> list[Any]:
        """Return sessions that have taken all idle threads."""
        n_idle = PARTS_PER_SESSION * (self.n_most - self.n_open)
        return [self.open_small(SMALL_GRAPH) for _ in range(n_idle)]


_COUNTS: dict[Hashable, SessionCount] = {}
_TAKEN: list[Any] = []


def count_session(runtime: Any, properties: Hashable, open_small: Callable[[bytes], Any]) -> None:
    """Count a session until it ends; `open_small` opens another graph with the same properties."""
    count = _COUNTS.setdefault(properties, SessionCount(open_small))
    count.begin()
    weakref.finalize(runtime, count.end).atexit = False


def _take_before_fork() -> None:
    for count in list(_COUNTS.values()):
        _TAKEN.extend(count.take_idle_threads())


def _keep_in_child() -> None:
    for session in _TAKEN:
        keep_for_ever(session)
    _TAKEN.clear()
    _COUNTS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take_before_fork, after_in_parent=_TAKEN.clear, after_in_child=_keep_in_child)
