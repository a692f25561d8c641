"""A loaded graph that survives a fork: threads are not inherited, so each process loads the graph for itself."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import ProviderError, reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..preprocess.preprocessor import Feed


class ProcessRuntime:
    """A runtime with the interface of ``onnxruntime.InferenceSession``, which a forked process loads again on use.

    What the parent loaded is neither used nor destroyed in the child: both wait for threads that the child lacks.
    """

    was_used = False
    """Whether a graph was ever loaded in this process or its ancestors."""

    def __init__(self, load: Callable[[], Any]) -> None:
        ProcessRuntime.was_used = True
        self._load = load
        self._loaded = load()
        self._lock = threading.Lock()
        _LOADED.add(self)

    @property
    def loaded(self) -> Any:
        """What this process loaded; it is loaded now in the child of the process that loaded it first."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load_after_fork()
            return self._loaded

    def get_inputs(self) -> list[Any]:
        """Return the graph's inputs."""
        return self.loaded.get_inputs()  # type: ignore[no-any-return]

    def get_outputs(self) -> list[Any]:
        """Return the graph's outputs."""
        return self.loaded.get_outputs()  # type: ignore[no-any-return]

    def get_session_options(self) -> Any:
        """Return the ``onnxruntime.SessionOptions``."""
        return self.loaded.get_session_options()

    def run(self, names: list[str] | None, feed: Feed) -> list[NDArray[Any]]:
        """Compute the outputs."""
        return self.loaded.run(names, feed)  # type: ignore[no-any-return]

    def abandon(self) -> None:
        """Forget what the parent loaded, without destroying it."""
        keep_for_ever(self._loaded)
        self._loaded = None
        self._lock = threading.Lock()

    def _load_after_fork(self) -> Any:
        try:
            return self._load()
        except Exception as error:
            raise ProviderError(
                f"a graph that was loaded before a fork does not load in process {os.getpid()}: {reason(error)}. "
                "Load the model after the fork."
            ) from error


_LOADED: weakref.WeakSet[ProcessRuntime] = weakref.WeakSet()


def keep_for_ever(value: Any) -> None:
    """Take a reference that is never given back, not even when the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def _abandon_inherited() -> None:
    if not ProcessRuntime.was_used:
        return
    for runtime in list(_LOADED):
        runtime.abandon()
    _skip_destructors_at_exit()


def _skip_destructors_at_exit() -> None:
    """Let this process end after Python's own exit handlers.

    The destructors of the static objects of ONNX Runtime and OpenVINO wait for threads of the parent: the process would
    hang or be aborted.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit"):  # glibc; it runs what was registered last first, with the exit status
        library.on_exit(library._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_inherited)
