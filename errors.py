"""Every error that topwork raises on purpose.

::

    TopworkError
    ├── InputError (ValueError)             the caller's argument or data
    │   ├── WeightsError                    a weights file that does not fit the model
    │   ├── LayerError                      a layer or pooling that does not exist or does not apply
    │   ├── SourceError                     a source of items that cannot be read
    │   ├── DecodeError                     one item that cannot be decoded
    │   └── IdentityError                   features of one backbone offered to a store or head of another
    ├── ExportError (RuntimeError)          a model that cannot be exported
    │   └── ParityError                     a graph that differs from its model
    ├── StoreError (RuntimeError)           a feature store that cannot be used
    │   ├── StoreLockedError                another process is writing
    │   ├── StoreDamagedError               its files do not match its log
    │   │   ├── MissingFileError            one of them is missing
    │   │   └── LogDamagedError             the log itself
    │   ├── StoreWriteError (OSError)       the disk is full, or writing is not allowed
    │   └── DriftError                      the graph computes other features than before
    ├── BundleError (ValueError)            a bundle that is damaged or not trusted
    ├── StoppedError (RuntimeError)         a job ended by its error policy
    └── SetupError                          the machine, not the data
        ├── CacheError (RuntimeError)       a cache folder that others may have changed
        ├── MissingPackageError (ImportError)
        ├── ProviderError (RuntimeError)    an execution provider that is not available
        └── HubError (OSError)              pre-trained weights that cannot be fetched

A message states what was wrong, what was expected and what to do next, in that order.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable
from types import FrameType

from .url_secrets import hide_secrets


class TopworkError(Exception):
    """Root of the tree; ``exit_code`` is what the command line returns."""

    exit_code = 2

    def __str__(self) -> str:
        """Return the message without passwords, tokens and signatures of URLs."""
        return hide_secrets(super().__str__())


class InputError(TopworkError, ValueError):
    """The caller's argument or data cannot be used."""


class DivergedError(InputError):
    """Training came to numbers that are not finite."""


class WeightsError(InputError):
    """A weights file does not fit the model."""


class LayerError(InputError):
    """A layer or pooling does not exist or does not apply."""


class SourceError(InputError):
    """A source of items cannot be read."""


class DecodeError(InputError):
    """One item cannot be decoded."""


class IdentityError(InputError):
    """Features of one backbone were offered where those of another are expected."""


class ExportError(TopworkError, RuntimeError):
    """The model cannot be exported as a graph."""


class ParityError(ExportError):
    """The exported graph differs from the model."""


class StoreError(TopworkError, RuntimeError):
    """A feature store cannot be used."""


class StoreLockedError(StoreError):
    """Another process is writing to the store."""


class StoreDamagedError(StoreError):
    """The files of a store do not match its log."""


class MissingFileError(StoreDamagedError):
    """A file that the log names is missing."""


class LogDamagedError(StoreDamagedError):
    """The log of a store is not the chain of entries that was written."""


class StoreWriteError(OSError, StoreError):  # OSError first: it takes the number of the error
    """A store cannot be written: the disk is full, or permissions are missing."""

    exit_code = 3


class DriftError(StoreError):
    """A graph computes other features of its canaries than when they were made."""


class BundleError(TopworkError, ValueError):
    """A bundle is damaged, or holds a type that is not trusted."""


class StoppedError(TopworkError, RuntimeError):
    """A job was ended by its error policy."""

    exit_code = 1


class SetupError(TopworkError):
    """Something is missing on this machine."""

    exit_code = 3


class CacheError(SetupError, RuntimeError):
    """What is cached belongs to another user, can be changed by others, or is damaged."""


class MissingPackageError(SetupError, ImportError):
    """A package is not installed."""


class ProviderError(SetupError, RuntimeError):
    """An execution provider is not available."""


class HubError(SetupError, OSError):
    """Pre-trained weights cannot be fetched."""


MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError, RecursionError, MemoryError)
"""What reading a description of values ends in where these are not of the types that are written."""


class TransientError(OSError):
    """A failure of a download that may pass: of the connection, or of a server that is busy.

    The server asked to wait for so many seconds, or did not say (None).
    """

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, at the line of the caller's own code: the first that belongs to neither topwork nor scikit-learn."""
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("topwork", "sklearn"):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)


def name_similar(name: str, known: Iterable[str], n_names: int = 3) -> str:
    """Return ``close: A, B; `` for a message about a misspelt name; nothing if no known name is like it."""
    similar = difflib.get_close_matches(name, list(known), n=n_names)
    return f"close: {', '.join(similar)}; " if similar else ""


def reason(error: BaseException) -> str:
    """Return the cause of an exception in one line.

    It is the first line of the root cause's message, with the first item of a list if it has one; the name of its type
    if there is no message.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in hide_secrets(str(error)).strip().splitlines()]
    if not lines:
        return type(error).__name__
    list_items = [line for line in lines[1:] if line.startswith(("- ", "-- "))]
    return " ".join([lines[0], *list_items[:1]])
