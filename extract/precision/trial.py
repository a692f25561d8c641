"""A precision on trial: its errors and its speed, measured on the user's items."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...errors import ProviderError, reason
from ...hardware import available_cores
from ..engine.engine import infer
from ..graphs.exported_graph import ExportedGraph
from ..graphs.fidelity import MAX_P99_ERROR, Fidelity, relative_errors
from ..preprocess.by_kind import preprocessor_for
from ..preprocess.preprocessor import Preprocessor
from ..runtime.providers import ON_PROCESSOR, find_rivals
from ..runtime.session import Session, open_session
from .block_products import consists_of_products, measure_activations
from .int8 import Calibration, calibrate
from .lowered import Lowering
from .sensitive import find_sensitive_operations, find_split_values, group_heavy_operations

if TYPE_CHECKING:
    from ..engine.result import Vectors
    from ..preprocess.preprocessor import Prepared

CALIBRATION_ITEMS = 128
"""Items on which the ranges of int8 are found; they do not judge if there are enough."""
SEARCH_ITEMS = 64
"""Items with which the operations are found that a precision hurts."""
MIN_SPEEDUP = 1.15
"""Speed over that of float32 from which a lower precision is worth its errors."""
MAX_ERROR_TO_BOUND_RATIO = 5
"""Ratio of the error to its bound up to which some operations are tried in float32."""
LONG_SECONDS = 2.0
"""A time from here on is taken once; that of shorter runs is the shorter of two."""
PERCENTILE = 99


class TimedRun(NamedTuple):
    """Features of the judging items that a session computed, and the seconds that it took."""

    session: Session
    vectors: Sequence[Vectors]
    seconds: float


def choose_fastest(found: Sequence[Fidelity]) -> Fidelity:
    """Return the fastest of those that pass, or of all if none does."""
    return max(select_passing(found), key=lambda fidelity: fidelity.speed)


def select_passing(found: Sequence[Fidelity]) -> Sequence[Fidelity]:
    """Return those that pass, or all if none does."""
    return [fidelity for fidelity in found if fidelity.passes] or found


@dataclass(frozen=True)
class Trial:
    """Precisions of a graph in fp32 on trial.

    Some of the user's items judge, others calibrate int8; `originals` are the judging items as exact decoding prepares
    them. If `is_automatic`, precisions that fail are skipped. If the trial is also thorough, some operations are tried
    in float32 where a precision fails as a whole and is at least `min_speedup` times as fast, and products in blocks
    are judged even if another precision would do. `failures` are the reasons of those that were not computed.
    """

    graph: ExportedGraph
    provider: str
    items: Sequence[Prepared]
    originals: Sequence[Prepared]
    calibrating: Sequence[Prepared]
    is_automatic: bool
    min_speedup: float = MIN_SPEEDUP
    is_thorough: bool = True
    failures: list[str] = field(default_factory=list, compare=False)

    def digest(self) -> str:
        """Return the digest of the items and of how they judge."""
        items = (*self.items, *self.originals, *self.calibrating)
        contents = [hashlib.sha256(item.array.tobytes()).digest() for item in items]
        options = f"{self.is_automatic} {self.min_speedup} {self.is_thorough}".encode()
        return hashlib.sha256(b"".join(contents) + options).hexdigest()

    def judge(self, family: str) -> Iterator[Fidelity]:
        """Judge a family as a whole; if that is fast and nearly accurate enough, with some operations in float32.

        Yields
        ------
        Fidelity
        """
        if family == "fp32":
            yield from self._judge_decoding()
            return
        if family == "int8" and not self.is_thorough and consists_of_products(self.graph):
            return  # ranges spoil nearly every transformer
        whole = Lowering(family)
        if family == "int8":
            whole = Lowering(family, calibration=self._calibration)
        found = self._measure(whole, self._find_rivals(family))
        yield from found
        best = choose_fastest(found)
        is_slow = best.speed < self.min_speedup
        is_far_off = best.usual > MAX_ERROR_TO_BOUND_RATIO * MAX_P99_ERROR
        if best.passes or is_slow or is_far_off or not (self.is_automatic and self.is_thorough):
            return
        for lowering in self._keep_operations(whole, best.provider):
            [mixed] = self._measure(lowering, [best.provider])
            yield mixed
            if mixed.passes:
                return

    def judge_products(self) -> Iterator[Fidelity]:
        """Judge matrix products in blocks of 8 bits, where most of the graph is products.

        Yields
        ------
        Fidelity
        """
        if consists_of_products(self.graph):
            activations = measure_activations(self.graph, self.calibrating)
            yield from self._measure(Lowering("int8", activations=activations), self._find_rivals("int8"))

    def is_worth_blocks(self, judged: Sequence[Fidelity]) -> bool:
        """Return whether to judge products in blocks, which take long to make, after other precisions."""
        return self.is_thorough and (self.is_automatic or not any(map(self.is_worth, judged)))

    @property
    def float32_rate(self) -> float:
        """Items per second of the provider that is the fastest in float32, inference alone."""
        return len(self._expected) / self._fastest.seconds

    def is_worth(self, fidelity: Fidelity) -> bool:
        """Return whether a lower precision is close enough, and if it is automatic fast enough, to replace float32."""
        is_fast = fidelity.speed >= self.min_speedup or not self.is_automatic
        return fidelity.passes and is_fast and fidelity.precision != "fp32"

    def _find_rivals(self, family: str) -> list[str]:
        """Return the names of the providers that are timed."""
        return [provider.name for provider in find_rivals(self.provider, family)]

    def _keep_operations(self, whole: Lowering, provider: str) -> Iterator[Lowering]:
        """Yield ways to keep some of the operations in float32, those that keep fewer first."""
        if whole.family == "bf16":
            for value in find_split_values(self.graph):
                yield replace(whole, kept=(value,))
            return
        kept = find_sensitive_operations(
            group_heavy_operations(self.graph), lambda names: self._search_error(whole, names, provider), MAX_P99_ERROR
        )
        if kept:
            yield replace(whole, kept=tuple(kept))

    def _search_error(self, whole: Lowering, kept: Sequence[str], provider: str) -> float:
        """Return the 99th percentile of the errors of some items where some operations are kept in float32."""
        lowering = replace(whole, kept=tuple(kept))
        session = open_session(
            lowering.make_model(self.graph).SerializeToString(),
            provider,
            precision=lowering.family,
            runs=available_cores(),
        )
        vectors = infer(self.items[:SEARCH_ITEMS], session, self._preprocessor)
        errors = relative_errors(vectors, self._expected[:SEARCH_ITEMS])
        return float(np.percentile(errors, PERCENTILE))

    def _judge_decoding(self) -> Iterator[Fidelity]:
        """Compare the features of images as they are decoded with those of exact decoding, on each provider."""
        expected = self._expected
        if any(original is not item for original, item in zip(self.originals, self.items, strict=True)):
            expected = infer(self.originals, self._fastest.session, self._preprocessor)
        for run in self._float32_runs:
            yield self._compare(run, expected, precision="fp32")

    def _measure(self, lowering: Lowering, providers: Sequence[str]) -> list[Fidelity]:
        """Measure the errors and the speed of a graph in a lower precision on providers; at least one computes it."""
        lowered = lowering.write(self.graph)
        runs = self._run_on(lowered, providers)
        precision = lowered.metadata.precision
        return [self._compare(run, self._expected, precision, kept=len(lowering.kept)) for run in runs]

    def _run_on(self, graph: ExportedGraph, providers: Sequence[str]) -> list[TimedRun]:
        """Compute the judging items on providers; those that do not compute the model are left out, unless all are."""
        runs: list[TimedRun] = []
        for name in providers:
            try:
                session = graph.open(name, available_cores())
                vectors, seconds = self._time(session)
            except ProviderError as error:
                self.failures.append(f"{graph.metadata.precision} on {name}: {reason(error)}")
                if not runs and name == providers[-1]:
                    raise
                continue
            runs.append(TimedRun(session, vectors, seconds))
        return runs

    def _compare(self, run: TimedRun, expected: Sequence[Vectors], precision: str, kept: int = 0) -> Fidelity:
        """Return what a run costs and gains."""
        errors = relative_errors(run.vectors, expected)
        return Fidelity(
            precision=precision,
            provider=run.session.provider,
            items=len(errors),
            usual=float(np.percentile(errors, PERCENTILE)),
            worst=max(errors),
            speed=self._fastest.seconds / run.seconds,
            kept=kept,
        )

    def _time(self, session: Session) -> tuple[list[Vectors], float]:
        """Return the features of the judging items and the seconds they took.

        A device compiles for the sizes of batches first; on the processor a long time needs no warm-up.
        """
        seconds: list[float] = []
        if session.provider not in ON_PROCESSOR:
            infer(self.items, session, self._preprocessor)
        while not seconds or (len(seconds) < 2 and seconds[0] < LONG_SECONDS):
            started = time.perf_counter()
            vectors = infer(self.items, session, self._preprocessor)
            seconds.append(time.perf_counter() - started)
        return vectors, min(seconds)

    @cached_property
    def _float32_runs(self) -> list[TimedRun]:
        """The judging items in float32, on each provider."""
        return self._run_on(self.graph, self._find_rivals("fp32"))

    @property
    def _fastest(self) -> TimedRun:
        """The fastest run in float32, with which all others are compared."""
        return min(self._float32_runs, key=lambda run: run.seconds)

    @property
    def _expected(self) -> Sequence[Vectors]:
        """Features in float32."""
        return self._fastest.vectors

    @cached_property
    def _calibration(self) -> Calibration:
        return calibrate(self.graph, self.calibrating)

    @cached_property
    def _preprocessor(self) -> Preprocessor:
        return preprocessor_for(self.graph.input_spec)
