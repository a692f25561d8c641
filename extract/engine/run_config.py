"""Options of a run: how items are computed, as opposed to what is computed."""

from __future__ import annotations

import re
from dataclasses import InitVar, dataclass
from fractions import Fraction
from numbers import Integral
from typing import Any, Literal

from ...errors import InputError, StoppedError
from ...progress import Listener, Progress, report_progress
from ..preprocess.decode import MAX_PIXELS
from ..runtime.providers import PRECISIONS, PROVIDERS
from .batching import DEFAULT_BATCH_SIZES, BatchSizes

LIMIT_PATTERN = re.compile(r"limit:(\d+(?:\.\d+)?)%")


@dataclass(frozen=True)
class ErrorPolicy:
    """What a run does about items that fail: record them, stop at the first, or stop beyond a share.

    Parameters
    ----------
    percent : Fraction
        Share of the items that may fail, in percent: 0 stops at the first, 100 never stops.

    Examples
    --------
    >>> ErrorPolicy.parse("limit:2.5%").percent
    Fraction(5, 2)
    """

    percent: Fraction

    @classmethod
    def parse(cls, text: str, owner: str = "") -> ErrorPolicy:
        """Read ``record``, ``raise`` or ``limit:N%``.

        Parameters
        ----------
        text : str
        owner : str
            Class or function that the error message names as the owner of the parameter.

        Raises
        ------
        InputError
            If `text` is none of these.
        """
        if text == "record":
            return cls(Fraction(100))
        if text == "raise":
            return cls(Fraction(0))
        match = LIMIT_PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None or Fraction(match[1]) > 100:
            of_owner = f" of {owner}" if owner else ""
            raise InputError(
                f"on_error={text!r}{of_owner}: expected 'record', 'raise' or 'limit:N%' with N from 0 to 100"
            )
        return cls(Fraction(match[1]))

    def check(self, failed: int, total: int, item_id: str, reason: str) -> None:
        """Stop if too many items have failed.

        Parameters
        ----------
        failed : int
            Items that have failed so far.
        total : int
            Items of the source.
        item_id, reason : str
            The last item that failed, and why.

        Raises
        ------
        StoppedError
        """
        if 100 * failed <= self.percent * total:
            return
        if self.percent == 0:
            bound = "the policy is to stop at the first"
        else:
            bound = f"at most {float(self.percent):g}% of {total} may fail"
        raise StoppedError(
            f"{item_id} failed: {reason} ({failed} failed so far; {bound}). Fix or remove it, or use "
            "on_error='record' (--on-error record) to continue without it."
        )


@dataclass(frozen=True)
class RunConfig:
    """How a run computes: where, in which precision, in which batches, and what it does about failures.

    What is computed is not part of it: the decode mode belongs to the input identity, the chosen precision to the
    column.

    Parameters
    ----------
    provider : str
        Execution provider, a name that ``topwork doctor`` lists; ``"auto"`` for the fastest available one.
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}
        The precision asked for. Where a store exists, its precision wins over ``"auto"``.
    batch_size : int or "auto"
        Items per batch. ``"auto"`` lets long jobs measure it on their first items, see
        :func:`topwork.extract.engine.tuning.tune`.
    on_error : str
        ``"raise"`` stops at the first item that fails, ``"record"`` continues without it, ``"limit:N%"`` stops when
        more than this share of the source has failed.
    max_pixels : int
        A larger image fails instead of being decoded.
    workers : int, optional
        Threads that read, decode and infer; one per core by default.
    progress : callable, optional
        Called with a :class:`topwork.progress.Progress` when computing begins and after every input.
    owner : str
        Class or function that error messages name as the owner of the parameters; not stored.

    Raises
    ------
    InputError
        If a parameter is not one of the allowed values.

    Examples
    --------
    >>> RunConfig(provider="cpu", on_error="record").policy.percent
    Fraction(100, 1)
    """

    provider: str = "auto"
    precision: str = "auto"
    batch_size: int | Literal["auto"] = "auto"
    on_error: str = "raise"
    max_pixels: int = MAX_PIXELS
    workers: int | None = None
    progress: Listener | None = None
    owner: InitVar[str] = "RunConfig"

    def __post_init__(self, owner: str) -> None:
        check_choice("provider", self.provider, ("auto", *PROVIDERS), owner)
        check_choice("precision", self.precision, PRECISIONS, owner)
        if not has_automatic_size(self.batch_size):
            check_positive("batch_size", self.batch_size, owner, expected="a positive number or 'auto'")
        ErrorPolicy.parse(self.on_error, owner)
        check_positive("max_pixels", self.max_pixels, owner)
        if self.workers is not None:
            check_positive("workers", self.workers, owner, expected="a positive number or None")
        if self.progress is not None and not callable(self.progress):
            raise InputError(f"progress={self.progress!r} of {owner}: expected a function of a Progress, or None")

    @property
    def policy(self) -> ErrorPolicy:
        """The error policy that ``on_error`` names."""
        return ErrorPolicy.parse(self.on_error)

    @property
    def has_automatic_batches(self) -> bool:
        """Whether the run may choose its batch sizes itself."""
        return has_automatic_size(self.batch_size)

    @property
    def batch_sizes(self) -> BatchSizes:
        """The batch sizes asked for; the defaults where they are automatic."""
        if isinstance(self.batch_size, str):
            return DEFAULT_BATCH_SIZES
        return BatchSizes(int(self.batch_size))

    def report(self, progress: Progress) -> None:
        """Report progress to ``progress``, or to the listener of the context if there is none."""
        listener = self.progress or report_progress
        listener(progress)


def choose_config(given: RunConfig, config: RunConfig | None, owner: str) -> RunConfig:
    """Return the configuration of a run that takes one as a whole, or option by option.

    `given` holds the options that were passed one by one; to pass both is an InputError, which names the owner.
    """
    if config is None:
        return given
    if given != RunConfig():
        raise InputError(f"config of {owner} was passed together with single options; expected one or the other")
    return config


def check_choice(name: str, value: Any, allowed: tuple[str, ...], owner: str) -> None:
    """Raise an InputError if a parameter is not one of the allowed values."""
    if value not in allowed:
        raise InputError(f"{name}={value!r} of {owner}: expected one of {', '.join(allowed)}")


def check_positive(name: str, value: Any, owner: str, expected: str = "a positive number") -> None:
    """Raise an InputError if a parameter is not an integer above 0, of Python or NumPy."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value <= 0:
        raise InputError(f"{name}={value!r} of {owner}: expected {expected}")


def has_automatic_size(batch_size: Any) -> bool:
    """Return whether a batch size is ``"auto"``; an array compares equal to no string."""
    return isinstance(batch_size, str) and batch_size == "auto"
