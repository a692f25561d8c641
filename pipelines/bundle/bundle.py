"""Bundles: a trained classifier as a folder without pickles, with a manifest that holds every file's digest."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atomic import TEMPORARY, new_folder, sync_folder, write_file
from ...errors import BundleError, InputError
from ...extract.graphs.editing import select_columns
from ...extract.graphs.exported_graph import ExportedGraph
from ...heads.fit_report import FitReport
from ...heads.persistence import head_files, load_head, save_head
from ...identity import digest_of_file

if TYPE_CHECKING:
    from ..estimators.transfer_estimator import TransferEstimator

BUNDLE_FORMAT = 1
MANIFEST = "bundle.json"
GRAPH_FILE = "extractor.onnx"
LEARNED_FILE = "learned.npy"
"""Which items the head has learned from, as :func:`topwork.pipelines.bundle.lineage.hashes_of` tells."""


def save(classifier: TransferEstimator, path: Path) -> None:
    """Write a bundle, whole or not at all; a bundle that is there already is replaced.

    Parameters
    ----------
    classifier : TransferClassifier or TransferRegressor
        Fitted.
    path : Path
        A folder. It holds ``bundle.json``, ``extractor.onnx`` with its certificate and canaries, the head (see
        :mod:`topwork.heads.persistence`), ``learned.npy``, and for texts ``inputs/tokenizer.json``.

    Raises
    ------
    BundleError
        If there is something at `path` that is no bundle.
    """
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(classifier, "head_")
    facts = classifier.facts()
    graph = classifier.extractor_.graph  # of foreign features there is none: an error, before anything is written
    if path.exists() and not (path / MANIFEST).is_file():
        raise BundleError(f"{path} exists and is no bundle; choose another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}{path.name}-", dir=path.parent) as beside:
        with new_folder(Path(beside) / "new") as folder:
            selected = select_columns(graph, [c.name for c in classifier.extractor_.columns], folder / GRAPH_FILE)
            selected.canaries.write(selected.open(classifier.extractor_.provider))
            types = save_head(classifier.head_, folder)
            if classifier.learned_ is not None:
                np.save(folder / LEARNED_FILE, classifier.learned_)
            inside = sorted(file for file in folder.rglob("*") if file.is_file())
            files = {file.relative_to(folder).as_posix(): digest_of_file(file) for file in inside}
            manifest = {**_manifest(classifier, files, types), **facts}
            write_file(folder / MANIFEST, json.dumps(manifest, indent=1, default=str).encode())
        if path.exists():
            path.rename(Path(beside) / "old")
        (Path(beside) / "new").rename(path)
    sync_folder(path.parent)


def _manifest(classifier: TransferEstimator, files: dict[str, str], types: list[str]) -> dict[str, Any]:
    metadata = classifier.extractor_.graph.metadata
    return {
        "format": BUNDLE_FORMAT,
        "topwork": version("topwork"),
        "files": files,
        "head": classifier.head if isinstance(classifier.head, str) else None,
        "types": types,
        "fingerprint": metadata.fingerprint,
        "identity": metadata.identity,
        "columns": [column.to_json() for column in classifier.extractor_.columns],
        "training": {
            "rows": classifier.n_rows_,
            "scikit-learn": version("scikit-learn"),
            "report": None if classifier.fit_report_ is None else asdict(classifier.fit_report_),
        },
        "lineage": classifier.lineage_,
    }


def load(path: str | Path, trusted: Sequence[str] = ()) -> Any:
    """Load a bundle; nothing in it is unpickled, and torch is not needed.

    Parameters
    ----------
    path : path
        A folder that :meth:`TransferClassifier.save` wrote.
    trusted : sequence of str
        Types that the head may hold beyond those of scikit-learn, numpy and scipy that are known to be safe.

    Returns
    -------
    TransferClassifier or TransferRegressor
        Fitted.

    Raises
    ------
    BundleError
        If the folder is no bundle, a file is missing or changed, or the head holds a type that is not trusted.
    """
    from sklearn.base import clone

    from ..estimators.transfer_classifier import TransferClassifier
    from ..estimators.transfer_regressor import TransferRegressor

    path = Path(path)
    manifest = read_manifest(path)
    for name, sha in manifest["files"].items():
        _check_file(path, name, sha)
    graph = ExportedGraph(path / GRAPH_FILE)
    _check_inputs(graph)
    head, training = load_head(path, trusted), manifest["training"]
    kind: Any = TransferRegressor if manifest.get("task") == "regression" else TransferClassifier
    own = head.estimator if manifest.get("calibrate") and manifest["head"] is None else head
    estimator = kind.from_graph(graph, head=manifest["head"] or clone(own))
    estimator.extractor_ = estimator._extractor().fit(None)
    try:
        estimator.restore(manifest, head)
    except BundleError as error:
        raise BundleError(f"{path / MANIFEST}: {error}") from error
    report = training.get("report")
    estimator.n_rows_, estimator.lineage_ = training["rows"], manifest.get("lineage", {})
    has_learned = LEARNED_FILE in manifest["files"]
    estimator.learned_ = np.load(path / LEARNED_FILE, allow_pickle=False) if has_learned else None
    estimator.fit_report_ = None if report is None else FitReport(**report)
    return estimator


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check a bundle's manifest."""
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_bytes())
        found, _ = manifest["format"], (manifest["classes"], manifest["head"], manifest["training"]["rows"])
        names = dict(manifest["files"]).keys()
        missing = [GRAPH_FILE] * (GRAPH_FILE not in names) + [
            "a head (head.skops, or head.json and head.safetensors)"
        ] * (not head_files(names))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"{path} is not a bundle: it has no {MANIFEST}. `topwork fit … --out DIR` writes one."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path / MANIFEST} cannot be read: {error!r}. Save the bundle again.") from error
    if found != BUNDLE_FORMAT:
        raise BundleError(f"{path} has format {found}, expected {BUNDLE_FORMAT}: another version of topwork wrote it")
    if missing:
        raise BundleError(f"{path / MANIFEST} does not name {', '.join(missing)}. Save the bundle again.")
    return manifest


def _check_file(path: Path, name: str, sha: str) -> None:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
        raise BundleError(f"{path / MANIFEST} names {name!r}; expected a file within the bundle")
    if not (path / name).is_file():
        raise BundleError(f"{path / name} is missing; copy the whole bundle again")
    if digest_of_file(path / name) != sha:
        raise BundleError(
            f"{path / name} is not what the manifest says: it was changed or damaged. Copy or save the bundle again."
        )


def _check_inputs(graph: ExportedGraph) -> None:
    """Read the tokeniser, which must be the one that the graph was made with."""
    try:
        graph.input_spec  # noqa: B018
    except InputError as error:
        raise BundleError(str(error)) from error
