"""Contender: one job of topwork, from files or text to a new store.

The graph is exported and its precision chosen before the measurement, as for a user's second job. Listing the source,
opening the session and writing are included; the time for opening the session is reported.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import topwork
from topwork.extract.engine.engine import infer
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.sources.item import content_digest
from topwork.hardware import available_cores
from topwork.models.input_spec import InputOverrides

WARMING = 32
"""Items that each of a session's runs computes before inference is timed."""


def main() -> None:
    options = parsed()
    warnings.simplefilter("ignore")  # of a provider that is passed over
    overrides = InputOverrides(decode=options.decode) if options.decode else InputOverrides()
    backbone = topwork.BackboneSpec(options.backbone, options.weights, preprocessing=overrides)
    extractor = topwork.Extractor(
        backbone, precision=options.precision, normalize=options.normalize, provider=options.provider
    )
    source: Any = topwork.Table(options.source, text="text") if options.source.suffix == ".csv" else str(options.source)
    extractor.fit(source)
    opening = Opening.watched()
    precision = extractor.precision_.partition(":")[0]  # without the digest of its details
    found = {"precision": precision, **WAYS[options.way](extractor, source, options)}
    seconds = found["whole"] - opening.seconds
    print(json.dumps({**found, "seconds": seconds, "opening": opening.seconds, "provider": opening.provider}))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="where the store is made")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--provider", default="auto")
    parser.add_argument("--batch-size", type=int, help="items of a batch; chosen by topwork if it is not given")
    parser.add_argument("--decode")
    parser.add_argument("--normalize", action="store_true")
    parser.add_argument("--way", choices=WAYS, default="store", help="what is timed")
    parser.add_argument("--features", type=Path, help="where the features are put, for comparison")
    return parser.parse_args()


@dataclass
class Opening:
    """Where graphs are opened, and how long that takes."""

    provider: str = ""
    seconds: float = 0.0

    @classmethod
    def watched(cls) -> Opening:
        """Return what is kept up to date from now on."""
        found, usual = cls(), ExportedGraph.open

        def opened(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            session = usual(*arguments, **named)
            found.seconds += time.perf_counter() - started
            found.provider = session.provider
            return session

        ExportedGraph.open = opened  # type: ignore[method-assign]
        return found


def to_store(extractor: topwork.Extractor, source: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Time the whole job."""
    folder = Path(tempfile.mkdtemp(prefix="store-", dir=options.work))
    try:
        store = topwork.FeatureStore.create(folder, extractor)
        started = time.perf_counter()
        batch_size = options.batch_size or "auto"
        ledger = topwork.extract_features(source, store, provider=options.provider, batch_size=batch_size)
        seconds = time.perf_counter() - started
        if options.features:
            np.save(options.features, store.matrix(store.columns[0].name))
    finally:
        shutil.rmtree(folder)
    return {"whole": seconds, "items": ledger.items, "write": ledger.stages.write}


def to_matrix(extractor: topwork.Extractor, source: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Time the same computation without a store."""
    started = time.perf_counter()
    rows = len(extractor.transform(source))
    return {"whole": time.perf_counter() - started, "items": rows}


def apart(extractor: topwork.Extractor, source: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Time reading and decoding on one thread, then inference on all cores, in core-seconds per item."""
    begun, preprocessor, cores = time.perf_counter(), extractor.preprocessor, available_cores()
    items, prepared = list(extractor.open(source)), []
    started = time.perf_counter()
    for item in items:
        content = item.read()
        content_digest(content)
        prepared.append(preprocessor.prepare(content))
    decode = (time.perf_counter() - started) / len(items)
    session = extractor.graph.open(extractor.provider, cores)
    infer(prepared[: WARMING * session.runs], session, preprocessor)
    started = time.perf_counter()
    infer(prepared, session, preprocessor)
    inference = (time.perf_counter() - started) * cores / len(items)
    return {"whole": time.perf_counter() - begun, "items": len(items), "decode": decode, "inference": inference}


def nothing(extractor: topwork.Extractor, source: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Leave it at the exported graph and its precision, which are kept for later runs."""
    return {"whole": 0.0, "items": 0}


WAYS = {"store": to_store, "matrix": to_matrix, "apart": apart, "prepare": nothing}

if __name__ == "__main__":
    main()
