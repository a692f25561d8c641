"""What a bundle, a feature store or an ONNX file is, in one screen."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import BundleError, InputError
from ..extract.graphs.certificate import Certificate
from ..extract.graphs.exported_graph import ExportedGraph
from ..extract.graphs.model_summary import summarize_model
from ..extract.store.description import is_store
from ..extract.store.feature_store import FeatureStore
from .bundle.manifest import FINETUNING, GRAPH_FILE, MANIFEST, check_files, read_manifest

MAX_COUNTED_LABELS = 20
ITEM_STATUSES = ("ok", "failed", "duplicate", "pending")


def describe_path(path: Path) -> dict[str, Any]:
    """Return what lies at a path, as JSON can hold it.

    Nothing is run, and no type that a head holds is loaded, so that a bundle of someone else can be looked at.

    Returns
    -------
    dict
        ``kind`` is ``"bundle"``, ``"store"`` or ``"onnx"``; ``path``, ``bytes``, and what that kind has.

    Raises
    ------
    InputError
        If it is none of them.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a bundle, a feature store or an ONNX file")
    if is_store(path):
        facts = describe_store(FeatureStore.open(path))
        kind = "store"
    elif (path / MANIFEST).is_file():
        facts = describe_bundle(path)
        kind = "bundle"
    elif path.suffix == ".onnx" and path.is_file():
        facts = describe_onnx(path)
        kind = "onnx"
    else:
        raise InputError(
            f"{path} is neither a bundle (a folder with {MANIFEST}) nor a feature store nor an ONNX file. "
            "`topwork extract` makes a store of a folder of items, `topwork fit` a bundle."
        )
    return {"kind": kind, "path": str(path), "bytes": count_bytes(path), **facts}


def describe_bundle(path: Path) -> dict[str, Any]:
    """Return what a bundle predicts, from what, how well, and where it comes from; check its files."""
    manifest = read_manifest(path)
    try:
        check_files(path, manifest["files"])
        damage = None
    except BundleError as error:
        damage = str(error)
    training = manifest["training"]
    return {
        "damage": damage,
        "task": manifest.get("task", "classification"),
        "classes": manifest["classes"],
        "head": manifest["head"],
        "types": manifest.get("types", []),
        "calibrate": manifest.get("calibrate", False),
        "abstain_below": manifest.get("abstain_below"),
        "rows": training["rows"],
        "report": training["report"],
        "finetuning": manifest.get(FINETUNING),
        "lineage": manifest.get("lineage", {}),
        "versions": {"topwork": manifest.get("topwork"), "scikit-learn": training.get("scikit-learn")},
        **describe_origin(manifest["identity"], manifest["columns"]),
        "certificate": None if damage else describe_certificate(ExportedGraph(path / GRAPH_FILE).certificate),
    }


def describe_store(store: FeatureStore) -> dict[str, Any]:
    """Return what a store holds: items, labels, columns, and the graph that they are computed with."""
    facts = summarize_store(store)
    labels = {name: count_labels(store, name) for name in store.label_names}
    facts |= {"rows": store.n_rows, "labels": labels}
    if store.is_foreign:
        return facts
    certificate = describe_certificate(store.graph.certificate)
    return {**facts, **describe_origin(store.identity, facts["columns"]), "certificate": certificate}


def summarize_store(store: FeatureStore) -> dict[str, Any]:
    """Return the counts of a store's items, its backbone (None for foreign features) and its columns."""
    counts = store.index.counts()
    by_status = {status: counts.get(status, 0) for status in ITEM_STATUSES}
    return {
        "items": sum(by_status.values()),
        **by_status,
        "items_per_second": None,
        "fingerprint": store.fingerprint,
        "backbone": None if store.is_foreign else store.identity["architecture"],
        "columns": [column.to_json() for column in store.columns],
    }


def count_labels(store: FeatureStore, name: str) -> dict[str, Any]:
    """Return how many rows have a label of a name, and how many each label has where there are few."""
    values = [str(value) for value in store.get_labels(name) if value is not None]
    counts = Counter(values)
    return {"rows": len(values), "different": len(counts), "counts": dict(counts.most_common(MAX_COUNTED_LABELS))}


def describe_origin(identity: dict[str, Any], columns: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the backbone of features, its input and the columns, given their identity."""
    return {
        "backbone": identity["architecture"],
        "weights": identity["weights"],
        "input": identity["input"],
        "columns": columns,
    }


def describe_certificate(certificate: Certificate) -> dict[str, Any]:
    """Return the largest error of a graph, and where it was measured."""
    return {
        "tolerance": certificate.tolerance,
        "worst": asdict(certificate.worst),
        "route": certificate.route,
        "provider": certificate.provider,
        "precision": certificate.precision,
        "measurements": [
            {
                "provider": found.provider,
                "precision": found.precision,
                "relative_l2": found.relative_l2,
                "passes": found.passes,
            }
            for found in certificate.measurements
        ],
        "fidelity": [asdict(entry) for entry in certificate.fidelity],
        "versions": certificate.versions,
    }


def describe_onnx(path: Path) -> dict[str, Any]:
    """Return inputs, outputs and size of an ONNX file, and what topwork wrote into one of its own."""
    facts, entries = summarize_model(path)
    if "topwork" not in entries:
        return facts
    origin = json.loads(entries["topwork"])
    classes = json.loads(entries["topwork.classes"]) if "topwork.classes" in entries else None
    return {**facts, "classes": classes, **describe_origin(origin["backbone"], origin.get("columns", []))}


def count_bytes(path: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
