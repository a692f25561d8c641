"""The precision of a graph: converting it, judging it on the user's items, choosing the fastest that is good enough."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ..errors import InputError, ProviderError
from ..models.image_spec import ImageSpec
from .atomic import write_file
from .engine import BATCH_SIZE, infer
from .fidelity import Fidelity, relative_errors
from .graph import METADATA_KEY, ExportedGraph
from .identity import digest
from .machine import available_cores, processor
from .preprocess.preprocessor import preprocessor_for
from .providers import choices

if TYPE_CHECKING:
    from ..models.input_spec import InputSpec
    from .engine import Vectors
    from .preprocess.prepared import Prepared
    from .session import Session

Draw: TypeAlias = "Callable[[InputSpec], Sequence[Prepared]]"

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
LOWER = ("bf16", "fp16")
"""What ``auto`` tries beside float32."""
GAIN = 1.15
"""Times as fast as float32 that a lower precision must be to be worth its errors."""


def require_precision(precision: str, what: str) -> None:
    """Raise an error if there is no such precision."""
    if precision not in PRECISIONS:
        raise InputError(f"precision={precision!r} of {what}: expected one of {', '.join(PRECISIONS)}")


def graph_in(graph: ExportedGraph, precision: str) -> ExportedGraph:
    """Return a graph that computes in a precision; it is made beside the original, once.

    Parameters
    ----------
    graph : ExportedGraph
        As it was exported, in fp32.
    precision : {"fp32", "bf16", "fp16"}
        For bf16 the file differs only in what it says of itself: the provider rounds as it computes.
    """
    if precision == "fp32":
        return graph
    path = graph.path.with_name(f"{graph.path.stem}-{precision}.onnx")
    made = ExportedGraph(path, graph.inputs)
    if not path.is_file():
        _write_certificate(made, replace(graph.certificate, precision=precision))
        write_file(path, _converted(graph, precision).SerializeToString())
    return made


def given_in(graph: ExportedGraph, precision: str) -> ExportedGraph:
    """Return a graph that was given, whose precision is what it is.

    Raises
    ------
    InputError
        If another one is asked for.
    """
    own = graph.metadata.precision
    if precision not in ("auto", own):
        raise InputError(f"this graph computes in {own}, not in {precision}; another precision needs the backbone")
    return graph


def _converted(graph: ExportedGraph, precision: str) -> Any:
    import onnx

    model = onnx.load(graph.path)
    if precision == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(model, keep_io_types=True)
    columns = tuple(replace(column, precision=precision) for column in graph.metadata.columns)
    entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    entry.value = replace(graph.metadata, columns=columns).to_text()
    return model


def choose_precision(graph: ExportedGraph, provider: str, draw: Draw, wanted: str) -> ExportedGraph:
    """Return the graph in the fastest precision whose features of some items are close to those in float32.

    What was measured is in the certificate of the graph, and is remembered: the same items on the same machine are
    judged once. Where images are decoded fast, the exact ones are what is compared with.

    Parameters
    ----------
    graph : ExportedGraph
        In fp32.
    provider : str
        As for :func:`topwork.extract.session.open_session`.
    draw : callable
        Returns some of the user's items, prepared as a specification says; without any, nothing is known, and float32
        it is.
    wanted : str
        ``"auto"``, or a precision, which is taken whatever is found.
    """
    candidates = [p for p in LOWER if _can_gain(provider, p)] if wanted == "auto" else [wanted]
    exact = _exact(graph.input_spec)
    is_plain = candidates in ([], ["fp32"]) and exact == graph.input_spec
    items = [] if is_plain else draw(graph.input_spec)
    if not items:
        return graph if wanted == "auto" else graph_in(graph, wanted)
    originals = items if exact == graph.input_spec else draw(exact)
    found = _remembered(graph, provider, _Drawn(items, originals), candidates or ["fp32"])
    good = [f for f in found if wanted != "auto" or (f.passes and f.speed >= GAIN)]
    best = max(good, key=lambda fidelity: fidelity.speed, default=None)
    chosen = graph_in(graph, best.precision) if best else graph
    if chosen.certificate.fidelity != found:
        _write_certificate(chosen, replace(chosen.certificate, fidelity=found))
    return ExportedGraph(chosen.path, chosen.inputs)  # which reads the new certificate


def _exact(spec: InputSpec) -> InputSpec:
    return replace(spec, decode="exact") if isinstance(spec, ImageSpec) else spec


class _Drawn(NamedTuple):
    """Items as they will be prepared, and as they would be exactly."""

    items: Sequence[Prepared]
    originals: Sequence[Prepared]

    def digest(self) -> str:
        contents = (hashlib.sha256(item.array.tobytes()).digest() for item in (*self.items, *self.originals))
        return hashlib.sha256(b"".join(contents)).hexdigest()


def _remembered(graph: ExportedGraph, provider: str, drawn: _Drawn, candidates: Sequence[str]) -> tuple[Fidelity, ...]:
    """Judge precisions, or read what was found before of these items on this machine."""
    key = digest([provider, candidates, drawn.digest(), processor(), available_cores()])
    path = graph.path.with_name(f"fidelity-{key[:16]}.json")
    if not path.is_file():
        found = _judged(graph, provider, drawn, candidates)
        write_file(path, json.dumps([asdict(f) for f in found], indent=1).encode())
    return tuple(Fidelity(**f) for f in json.loads(path.read_text(encoding="utf-8")))


def _judged(graph: ExportedGraph, provider: str, drawn: _Drawn, candidates: Sequence[str]) -> Iterator[Fidelity]:
    expected, usual = _timed(graph.open(provider, available_cores()), graph, drawn.originals)
    for precision in candidates:
        session = graph_in(graph, precision).open(provider, available_cores())
        vectors, seconds = _timed(session, graph, drawn.items)
        errors = relative_errors(vectors, expected)
        p99 = float(np.percentile(errors, 99))
        yield Fidelity(precision, session.provider, len(drawn.items), p99, max(errors), usual / seconds)


def _can_gain(provider: str, precision: str) -> bool:
    """Tell whether a provider computes in a precision natively: the processor's own float16 is emulated."""
    try:
        return choices(provider, precision)[0].name != "cpu"
    except (ProviderError, InputError):
        return False


def _timed(session: Session, graph: ExportedGraph, items: Sequence[Prepared]) -> tuple[list[Vectors], float]:
    """Return the features of items and the seconds it took, after first batches that warm up."""
    preprocessor = preprocessor_for(graph.input_spec)
    infer(items[: BATCH_SIZE * session.runs], session, preprocessor)
    started = time.perf_counter()
    vectors = infer(items, session, preprocessor)
    return vectors, time.perf_counter() - started


def _write_certificate(graph: ExportedGraph, certificate: Any) -> None:
    write_file(graph.certificate_path, json.dumps(certificate.to_json(), indent=1).encode())
