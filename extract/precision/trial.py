"""A precision on trial: its errors and its speed, measured on the user's items."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ...hardware import available_cores
from ..engine.batching import ITEMS_PER_BATCH
from ..engine.engine import infer
from ..graphs.exported_graph import ExportedGraph
from ..graphs.fidelity import MAX_JUDGED_ITEMS, MAX_P99_ERROR, Fidelity, relative_errors
from ..preprocess.by_kind import preprocessor_for
from ..preprocess.preprocessor import Preprocessor
from ..runtime.session import Session, open_session
from .int8 import Calibration, calibrate
from .lowered import Lowering
from .sensitive import find_sensitive_operations, find_split_values, group_heavy_operations

if TYPE_CHECKING:
    from ..engine.engine import Vectors
    from ..preprocess.preprocessor import Prepared

CALIBRATION_ITEMS = 128
"""Items on which the ranges of int8 are found: the last that are drawn, which do not judge if there are enough."""
SEARCH_ITEMS = 64
"""Items with which the operations are found that a precision hurts."""
MIN_SPEEDUP = 1.15
"""Speed over that of float32 from which a lower precision is worth its errors."""
MAX_ERROR_TO_BOUND_RATIO = 5
"""Ratio of the error to its bound up to which some operations are tried in float32."""
PERCENTILE = 99


@dataclass(frozen=True)
class Trial:
    """Precisions of a graph in fp32 on trial.

    The first 256 of the user's items judge, the last 128 calibrate; `originals` are the judging items as exact decoding
    prepares them. If `is_automatic`, precisions that fail are skipped; and where one fails as a whole, and is at least
    `min_speedup` times as fast as float32, some operations are tried in float32.
    """

    graph: ExportedGraph
    provider: str
    items: Sequence[Prepared]
    originals: Sequence[Prepared]
    is_automatic: bool
    min_speedup: float = MIN_SPEEDUP

    def digest(self) -> str:
        """Return the digest of the items and of how they judge."""
        contents = [hashlib.sha256(item.array.tobytes()).digest() for item in (*self.items, *self.originals)]
        options = f"{self.is_automatic} {self.min_speedup}".encode()
        return hashlib.sha256(b"".join(contents) + options).hexdigest()

    def judge(self, family: str) -> Iterator[Fidelity]:
        """Judge a family as a whole; if that is fast and nearly accurate enough, with some operations in float32.

        Yields
        ------
        Fidelity
        """
        if family == "fp32":
            yield self._judge_decoding()
            return
        whole = Lowering(family)
        if family == "int8":
            whole = Lowering(family, calibration=self._calibration)
        first = self._measure(whole)
        yield first
        if first.passes or not self.is_automatic:
            return
        is_slow = first.speed < self.min_speedup
        is_far_off = first.usual > MAX_ERROR_TO_BOUND_RATIO * MAX_P99_ERROR
        if is_slow or is_far_off:
            return
        for lowering in self._keep_operations(whole):
            mixed = self._measure(lowering)
            yield mixed
            if mixed.passes:
                return

    def _keep_operations(self, whole: Lowering) -> Iterator[Lowering]:
        """Yield ways to keep some of the operations in float32, those that keep fewer first."""
        if whole.family == "bf16":
            for value in find_split_values(self.graph):
                yield replace(whole, kept=(value,))
            return
        kept = find_sensitive_operations(
            group_heavy_operations(self.graph), lambda names: self._search_error(whole, names), MAX_P99_ERROR
        )
        if kept:
            yield replace(whole, kept=tuple(kept))

    def _search_error(self, whole: Lowering, kept: Sequence[str]) -> float:
        """Return the 99th percentile of the errors of some items where some operations are kept in float32."""
        lowering = replace(whole, kept=tuple(kept))
        session = open_session(
            lowering.make_model(self.graph).SerializeToString(),
            self.provider,
            precision=lowering.family,
            runs=available_cores(),
        )
        vectors = infer(self.items[:SEARCH_ITEMS], session, self._preprocessor)
        expected, _ = self._expected
        errors = relative_errors(vectors, expected[:SEARCH_ITEMS])
        return float(np.percentile(errors, PERCENTILE))

    def _judge_decoding(self) -> Fidelity:
        """Compare the features of images as they are decoded with those of exact decoding."""
        found, _ = self._expected
        expected = infer(self.originals, self._float32_session, self._preprocessor)
        errors = relative_errors(found, expected)
        return Fidelity(
            precision="fp32",
            provider=self._float32_session.provider,
            items=len(errors),
            usual=float(np.percentile(errors, PERCENTILE)),
            worst=max(errors),
            speed=1.0,
        )

    def _measure(self, lowering: Lowering) -> Fidelity:
        """Measure the errors and the speed of a graph in a lower precision."""
        lowered = lowering.write(self.graph)
        session = lowered.open(self.provider, available_cores())
        vectors, seconds = self._time(session, self.items[:MAX_JUDGED_ITEMS])
        expected, float32_seconds = self._expected
        errors = relative_errors(vectors, expected)
        return Fidelity(
            precision=lowered.metadata.precision,
            provider=session.provider,
            items=len(vectors),
            usual=float(np.percentile(errors, PERCENTILE)),
            worst=max(errors),
            speed=float32_seconds / seconds,
            kept=len(lowering.kept),
        )

    def _time(self, session: Session, items: Sequence[Prepared]) -> tuple[list[Vectors], float]:
        """Return the features of items and the seconds they took, after a warm-up."""
        warm_up = items[: ITEMS_PER_BATCH * session.runs]
        infer(warm_up, session, self._preprocessor)
        started = time.perf_counter()
        vectors = infer(items, session, self._preprocessor)
        return vectors, time.perf_counter() - started

    @cached_property
    def _expected(self) -> tuple[list[Vectors], float]:
        """Features in float32, and the seconds they took."""
        return self._time(self._float32_session, self.items[:MAX_JUDGED_ITEMS])

    @cached_property
    def _float32_session(self) -> Session:
        return self.graph.open(self.provider, available_cores())

    @cached_property
    def _calibration(self) -> Calibration:
        return calibrate(self.graph, self.items[-CALIBRATION_ITEMS:])

    @cached_property
    def _preprocessor(self) -> Preprocessor:
        return preprocessor_for(self.graph.input_spec)
