"""The choice of a precision: judged on the user's items, remembered, the fastest that is good enough."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ...atomic import write_file
from ...errors import InputError, ProviderError
from ...hardware import available_cores, processor
from ...identity import digest
from ..engine.batching import ITEMS_PER_BATCH
from ..engine.engine import infer
from ..graphs.exported_graph import ExportedGraph
from ..graphs.fidelity import FIDELITY_FORMAT, MAX_JUDGED_ITEMS, MAX_P99_ERROR, Fidelity, relative_errors
from ..preprocess.by_kind import preprocessor_for
from ..preprocess.preprocessor import Preprocessor
from ..runtime.providers import LOWER_PRECISIONS, find_providers, find_runtime_versions, has_package
from ..runtime.session import Session, open_session
from .int8 import Calibration, calibrated
from .lowered import Lowering, beside, graph_in
from .sensitive import beginnings, groups_of, sensitive

if TYPE_CHECKING:
    from ...models.input_spec import InputSpec
    from ..engine.engine import Vectors
    from ..engine.run_config import RunConfig
    from ..preprocess.preprocessor import Prepared

Draw: TypeAlias = "Callable[[Sequence[InputSpec], int], Sequence[tuple[Prepared, ...]]]"

CALIBRATION = 128
"""Items by which the ranges of int8 are found: the last that are drawn, after those that judge if there are enough."""
FEWEST = 32
"""Of fewer items, ``auto`` computes in float32: judging would take longer than it saves."""
SEARCH = 64
"""Items by which the operations are found that a precision hurts."""
GAIN = 1.15
"""Times as fast as float32 that a lower precision must be to be worth its errors."""
WORTH_MENDING = 5
"""Times the bound up to which it is tried to keep some operations in float32."""


def choose_precision(graph: ExportedGraph, config: RunConfig, draw: Draw) -> ExportedGraph:
    """Return the graph in the fastest precision whose features of some items are close to those in float32.

    What was measured is in the certificate of the graph, and is remembered: the same items on the same machine are
    judged once. Where images are decoded fast, that is judged, too, by float32 beside exact decoding.

    Parameters
    ----------
    graph : ExportedGraph
        In fp32.
    config : RunConfig
        Its precision is ``"auto"``, or a precision, which is taken whatever is found.
    draw : callable
        Returns up to so many of the user's items, each prepared in the ways given; without any, nothing is known.

    Raises
    ------
    InputError
        If the precision depends on items, and there are none.
    """
    provider = config.provider
    wanted = config.precision
    families = [p for p in LOWER_PRECISIONS if _can_gain(provider, p)] if wanted == "auto" else [wanted]
    specs = list(dict.fromkeys([graph.input_spec, graph.input_spec.with_exact_decoding()]))
    is_plain = families in ([], ["fp32"]) and len(specs) == 1
    drawn = [] if is_plain else draw(specs, MAX_JUDGED_ITEMS + CALIBRATION * ("int8" in families))
    if wanted == "auto" and len(drawn) < FEWEST:
        families = []
    if len(specs) > 1:
        families = list(dict.fromkeys([*families, "fp32"]))
    if not drawn or not families:
        return graph if wanted in ("auto", "fp32") else graph_in(graph, wanted)
    items, originals = ([ways[place] for ways in drawn] for place in (0, -1))
    found = _remembered(
        _Trial(graph, provider, items, originals[:MAX_JUDGED_ITEMS], is_mended=wanted == "auto"), families
    )
    good = [f for f in found if f.precision != "fp32" and (wanted != "auto" or (f.passes and f.speed >= GAIN))]
    best = max(good, key=lambda fidelity: fidelity.speed, default=None)
    return replace(beside(graph, best.precision) if best else graph, fidelity=found)


def _can_gain(provider: str, precision: str) -> bool:
    """Tell whether a provider computes in a precision natively: the processor's own float16 is emulated.

    Without the package onnx no graph can be converted.
    """
    try:
        if not has_package("onnx"):
            return False
        return (precision, find_providers(provider, precision)[0].name) != ("fp16", "cpu")
    except (ProviderError, InputError):
        return False


def _remembered(trial: _Trial, families: Sequence[str]) -> tuple[Fidelity, ...]:
    """Judge precisions, or read what was found before of these items on this machine."""
    key = digest(
        [
            trial.provider,
            families,
            trial.digest(),
            find_runtime_versions(),
            processor(),
            available_cores(),
            FIDELITY_FORMAT,
        ]
    )
    path = trial.graph.path.with_name(f"fidelity-{key[:16]}.json")
    if not path.is_file():
        found = [fidelity for name in families for fidelity in trial.judged(name)]
        write_file(path, json.dumps([asdict(f) for f in found], indent=1).encode())
    return tuple(Fidelity(**f) for f in json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class _Trial:
    """Precisions of a graph on trial.

    ``items`` are the user's: the first 256 judge, and calibrate with those behind them; ``originals`` are the judging
    ones as they are decoded exactly.
    """

    graph: ExportedGraph
    provider: str
    items: Sequence[Prepared]
    originals: Sequence[Prepared]
    is_mended: bool
    """Whether it is tried to keep some operations in float32 where the whole fails."""

    def digest(self) -> str:
        contents = (hashlib.sha256(item.array.tobytes()).digest() for item in (*self.items, *self.originals))
        return hashlib.sha256(b"".join(contents) + bytes([self.is_mended])).hexdigest()

    def judged(self, family: str) -> Iterator[Fidelity]:
        """Judge a precision; if it is fast, and nearly good enough, then also with some operations in float32."""
        whole = Lowering(family, (), self._calibration if family == "int8" else None)
        if family == "fp32":
            yield self._decoding()
            return
        first = self._fidelity(whole.written(self.graph), ())
        yield first
        is_hopeless = first.speed < GAIN or first.usual > WORTH_MENDING * MAX_P99_ERROR
        if first.passes or is_hopeless or not self.is_mended:
            return
        for lowering in self._mixed(whole):
            mixed = self._fidelity(lowering.written(self.graph), lowering.kept)
            yield mixed
            if mixed.passes:
                return

    def _mixed(self, whole: Lowering) -> Iterator[Lowering]:
        """Yield ways to keep some of the operations in float32, those that keep fewer first."""
        if whole.family == "bf16":
            yield from (replace(whole, kept=(value,)) for value in beginnings(self.graph))
            return
        kept = sensitive(
            groups_of(self.graph), lambda names: self._error(replace(whole, kept=tuple(names))), MAX_P99_ERROR
        )
        if kept:
            yield replace(whole, kept=tuple(kept))

    def _error(self, lowering: Lowering) -> float:
        """Return the 99th percentile of the errors of some items."""
        content = lowering.model(self.graph).SerializeToString()
        session = open_session(content, self.provider, None, lowering.family, available_cores())
        vectors = infer(self.items[:SEARCH], session, self._preprocessor)
        return float(np.percentile(relative_errors(vectors, self._expected[0][:SEARCH]), 99))

    def _decoding(self) -> Fidelity:
        """Compare the features of images as they are decoded with those of exact decoding."""
        errors = relative_errors(self._expected[0], infer(self.originals, self._float32, self._preprocessor))
        return Fidelity("fp32", self._float32.provider, len(errors), float(np.percentile(errors, 99)), max(errors), 1.0)

    def _fidelity(self, lowered: ExportedGraph, kept: Sequence[str]) -> Fidelity:
        session = lowered.open(self.provider, available_cores())
        vectors, seconds = self._timed(session, self.items[:MAX_JUDGED_ITEMS])
        expected, usual = self._expected
        errors = relative_errors(vectors, expected)
        precision, p99 = lowered.metadata.precision, float(np.percentile(errors, 99))
        return Fidelity(precision, session.provider, len(vectors), p99, max(errors), usual / seconds, len(kept))

    def _timed(self, session: Session, items: Sequence[Prepared]) -> tuple[list[Vectors], float]:
        """Return the features of items and the seconds it took, after first batches that warm up."""
        infer(items[: ITEMS_PER_BATCH * session.runs], session, self._preprocessor)
        started = time.perf_counter()
        vectors = infer(items, session, self._preprocessor)
        return vectors, time.perf_counter() - started

    @cached_property
    def _expected(self) -> tuple[list[Vectors], float]:
        """Features in float32, and the seconds they took."""
        return self._timed(self._float32, self.items[:MAX_JUDGED_ITEMS])

    @cached_property
    def _float32(self) -> Session:
        return self.graph.open(self.provider, available_cores())

    @cached_property
    def _calibration(self) -> Calibration:
        return calibrated(self.graph, self.items[-CALIBRATION:])

    @cached_property
    def _preprocessor(self) -> Preprocessor:
        return preprocessor_for(self.graph.input_spec)
