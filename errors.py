"""Every error that topwork raises on purpose.

::

    TopworkError
    ├── InputError (ValueError)             the caller's argument or data
    │   ├── WeightsError                    a weights file that does not fit the network
    │   ├── LayerError                      a layer or pooling that does not exist or does not apply
    │   ├── SourceError                     a source of items that cannot be read
    │   ├── DecodeError                     one item that cannot be decoded
    │   └── IdentityError                   features of one backbone offered to a store or head of another
    ├── ExportError (RuntimeError)          a network that cannot be turned into a graph
    │   └── ParityError                     a graph that differs from its network
    ├── StoreError (RuntimeError)           a feature store that cannot be used
    │   ├── StoreLockedError                another process is writing
    │   ├── StoreDamagedError               its files are not what its log says
    │   │   ├── MissingFileError            one of them is gone
    │   │   └── LogDamagedError             the log itself
    │   ├── StoreWriteError (OSError)       the disk is full, or writing is not allowed
    │   └── DriftError                      the graph computes something else than it did
    ├── BundleError (ValueError)            a bundle that is damaged or not trusted
    ├── StoppedError (RuntimeError)         a job ended by its error policy
    └── SetupError                          the machine, not the data
        ├── MissingPackageError (ImportError)
        ├── ProviderError (RuntimeError)    an execution provider that is not there
        └── HubError (OSError)              pre-trained weights that cannot be fetched

A message says what was wrong, what was expected and what to do next, in that order.
"""

from __future__ import annotations


class TopworkError(Exception):
    """Root of the tree; ``exit_code`` is what the command line returns."""

    exit_code = 2


class InputError(TopworkError, ValueError):
    """The caller's argument or data cannot be used."""


class WeightsError(InputError):
    """A weights file does not fit the network."""


class LayerError(InputError):
    """A layer or pooling does not exist or does not apply."""


class SourceError(InputError):
    """A source of items cannot be read."""


class DecodeError(InputError):
    """One item cannot be decoded."""


class IdentityError(InputError):
    """Features of one backbone were offered where those of another belong."""


class ExportError(TopworkError, RuntimeError):
    """The network cannot be turned into a graph."""


class ParityError(ExportError):
    """The exported graph differs from the network."""


class StoreError(TopworkError, RuntimeError):
    """A feature store cannot be used."""


class StoreLockedError(StoreError):
    """Another process is writing to the store."""


class StoreDamagedError(StoreError):
    """The files of a store are not what its log says."""


class MissingFileError(StoreDamagedError):
    """A file that the log names is gone."""


class LogDamagedError(StoreDamagedError):
    """The log of a store is not a chain of entries as they were written."""


class StoreWriteError(OSError, StoreError):  # OSError first: it takes the number of the error
    """A store cannot be written: the disk is full, or permissions are missing."""

    exit_code = 3


class DriftError(StoreError):
    """A graph yields other vectors for its canaries than it did when they were made."""


class BundleError(TopworkError, ValueError):
    """A bundle is damaged, or holds a type that is not trusted."""


class StoppedError(TopworkError, RuntimeError):
    """A job was ended by its error policy."""

    exit_code = 1


class SetupError(TopworkError):
    """Something is missing on this machine."""

    exit_code = 3


class MissingPackageError(SetupError, ImportError):
    """A package is not installed."""


class ProviderError(SetupError, RuntimeError):
    """An execution provider is not there."""


class HubError(SetupError, OSError):
    """Pre-trained weights cannot be fetched."""


def reason(error: BaseException) -> str:
    """Return the first line of what an exception says, and its first point if it lists any; if nothing, its type.

    Parameters
    ----------
    error : exception
        Followed to its root cause.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).strip().splitlines()]
    points = [line for line in lines[1:] if line.startswith("- ")][:1]
    return " ".join(lines[:1] + points) or type(error).__name__
