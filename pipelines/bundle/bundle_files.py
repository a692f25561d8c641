"""Bundles: a fitted pipeline as a folder without pickles, written and read as a whole."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atomic import (
    is_set_aside,
    name_full_disk,
    new_folder,
    replace_folder,
    require_destination,
    restore_replaced,
    sweep_after_dead_processes,
    sync_folder,
    temporary_name,
    write_file,
)
from ...errors import BundleError, InputError
from ...extract.graphs.editing import select_columns
from ...extract.graphs.exported_graph import INPUTS_FOLDER, ExportedGraph
from ...extract.graphs.pinned_graph import PinnedFiles, PinnedGraph
from ...heads.familiarity import Familiarity
from ...heads.fit_report import FitReport
from ...heads.persistence import load_head, save_head
from .manifest import (
    BUNDLE_FORMAT,
    FAMILIAR_FILE,
    GRAPH_FILE,
    LEARNED_FILE,
    MANIFEST,
    UPPER_FILE,
    check_files,
    digest_files,
    read_manifest,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.graphs.cut import Column


MAX_READS = 20
"""How often a bundle is read that is replaced each time meanwhile."""


@dataclass(frozen=True)
class BundleContents:
    """The parts of a fitted pipeline that a bundle stores.

    The head was fitted on `columns` of the graph, in this order, and on `n_rows` rows, the hashes of whose ids are
    `learned_ids`, ascending (None if they are not known); `familiarity` compares new features with them (None if it
    cannot). `head_name` is its name in the registry, None if it was given as an estimator. `properties` are what the
    estimator adds to the manifest, such as ``task`` and ``classes``, as JSON can hold it; the lineage is as of
    :func:`topwork.pipelines.bundle.lineage.describe_training`. Of a backbone whose upper layers were trained,
    `upper_weights` are what training changed; they are written with it, and read by :func:`read_upper_weights` alone.
    """

    graph: ExportedGraph
    columns: tuple[Column, ...]
    head: Any
    head_name: str | None
    properties: dict[str, Any]
    n_rows: int
    fit_report: FitReport | None
    lineage: dict[str, Any]
    learned_ids: NDArray[np.uint64] | None
    familiarity: Familiarity | None
    upper_weights: Mapping[str, NDArray[Any]] | None = None


def require_bundle_place(path: Path, *, overwrite: bool) -> None:
    """Raise an error if no bundle may be written at a path: a BundleError if something is there already.

    With `overwrite`, an existing bundle may be replaced, and nothing else.
    """
    restore_replaced(path)
    is_empty_folder = path.is_dir() and not any(path.iterdir())
    if (path / MANIFEST).is_file():
        if not overwrite:
            raise BundleError(
                f"{path} is a bundle already, which would be replaced; expected a new name, or --overwrite "
                "(overwrite=True)"
            )
    elif path.is_symlink() or (path.exists() and not is_empty_folder):
        raise BundleError(f"{path} exists and is no bundle; choose another folder")
    require_destination(path)


def write_bundle(contents: BundleContents, path: Path, provider: str = "auto", *, overwrite: bool = False) -> None:
    """Write a bundle into a folder, atomically; an existing bundle is replaced with `overwrite` alone.

    The folder holds ``bundle.json``, ``extractor.onnx`` with its certificate (of `provider`, too) and canaries, the
    head (see :mod:`topwork.heads.persistence`), ``learned.npy``, ``familiar.npz``, ``upper.safetensors``, and for text
    ``inputs/tokenizer.json``. Raise a BundleError if something else is at `path`.
    """
    require_bundle_place(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_after_dead_processes(path.parent)
    temporary = path.with_name(temporary_name(f"{path.name}-"))
    temporary.mkdir()
    try:
        new = temporary / "new"
        with name_full_disk(path), new_folder(new) as folder:
            write_files(contents, folder, provider)
        replace_folder(new, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(path.parent)


def write_files(contents: BundleContents, folder: Path, provider: str) -> None:
    """Write the files of a bundle into an empty folder, the manifest last."""
    # The graph, cut down to the columns of the head.
    names = [column.name for column in contents.columns]
    graph = select_columns(contents.graph, names, folder / GRAPH_FILE)
    session = graph.open(provider)
    if graph.canaries is None:
        graph.write_session_canaries(session)
    graph.write_certificate(graph.certificate)  # with the measurements that opening made
    # The head.
    types = save_head(contents.head, folder)
    if contents.learned_ids is not None:
        stream = io.BytesIO()
        np.save(stream, contents.learned_ids)  # into a file it reports no error when the last bytes do not fit
        write_file(folder / LEARNED_FILE, stream.getvalue())
    if contents.familiarity is not None:
        np.savez(folder / FAMILIAR_FILE, **contents.familiarity.to_arrays())
    if contents.upper_weights is not None:
        from safetensors.numpy import save

        write_file(folder / UPPER_FILE, save(dict(contents.upper_weights)))
    # The manifest, with the digests of all of these.
    manifest = build_manifest(contents, digest_files(folder), types)
    write_file(folder / MANIFEST, json.dumps(manifest, indent=1, default=str).encode())


def build_manifest(contents: BundleContents, files: dict[str, str], types: list[str]) -> dict[str, Any]:
    """Return the manifest of a bundle, given the digests of its other files and the types that the head holds."""
    metadata = contents.graph.metadata
    report = None if contents.fit_report is None else asdict(contents.fit_report)
    return {
        "format": BUNDLE_FORMAT,
        "topwork": version("topwork"),
        "files": files,
        "head": contents.head_name,
        "types": types,
        "fingerprint": metadata.fingerprint,
        "identity": metadata.identity,
        "columns": [column.to_json() for column in contents.columns],
        "training": {"rows": contents.n_rows, "scikit-learn": version("scikit-learn"), "report": report},
        "lineage": contents.lineage,
        **contents.properties,
    }


def read_bundle(path: Path, trusted: Sequence[str] = ()) -> BundleContents:
    """Read a bundle; nothing is unpickled, and torch is not needed.

    Of the types beyond those of scikit-learn, numpy and scipy that are known to be safe, the head may hold the
    `trusted` ones. Raise a BundleError for others, or if a file is missing or changed. A bundle that is replaced
    meanwhile is read again.
    """
    failure: Exception | None = None
    for _ in range(MAX_READS):
        restore_replaced(path)
        before = describe_version(path)
        try:
            contents = read_files(path, trusted)
        except (BundleError, FileNotFoundError) as error:
            if is_stable(path, before):
                raise
            failure = error
            continue
        if describe_version(path) == before:
            return contents
    if failure is not None and describe_version(path) is None:
        raise failure
    raise BundleError(f"{path} was replaced {MAX_READS} times while it was read. Read it when its writer has ended.")


def is_stable(path: Path, version: tuple[int, ...] | None) -> bool:
    """Return whether a version of a bundle, or its absence, is all that there is: nothing is taking its place."""
    if describe_version(path) != version:
        return False
    return version is not None or not (is_set_aside(path) or path.exists())


def describe_version(path: Path) -> tuple[int, ...] | None:
    """Return what tells a bundle from another one in its place; None if there is none."""
    try:
        folder = path.stat()
        manifest = (path / MANIFEST).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (folder.st_ino, manifest.st_ino, manifest.st_size, manifest.st_mtime_ns)


def read_files(path: Path, trusted: Sequence[str]) -> BundleContents:
    """Read the files of a bundle once."""
    manifest = read_manifest(path)
    check_files(path, manifest["files"])
    graph = pin_graph(path, manifest["files"])
    check_inputs(graph)
    learned_ids = None
    if LEARNED_FILE in manifest["files"]:
        learned_ids = read_learned_ids(path / LEARNED_FILE)
    return BundleContents(
        graph=graph,
        columns=graph.metadata.columns,
        head=load_head(path, trusted),
        head_name=manifest["head"],
        properties=manifest,
        n_rows=manifest["training"]["rows"],
        fit_report=read_fit_report(path, manifest["training"].get("report")),
        lineage=manifest.get("lineage", {}),
        learned_ids=learned_ids,
        familiarity=read_familiarity(path) if FAMILIAR_FILE in manifest["files"] else None,
    )


def read_upper_weights(path: Path, contents: BundleContents) -> dict[str, NDArray[Any]] | None:
    """Return the weights of the layers that were trained, of a bundle that was read; None if it has a head alone.

    Raise a BundleError if the file is missing, changed, or that of a bundle in its place.
    """
    files = contents.properties["files"]
    if UPPER_FILE not in files:
        return None
    check_files(path, {UPPER_FILE: files[UPPER_FILE]})
    from safetensors.numpy import load

    weights: dict[str, NDArray[Any]] = load((path / UPPER_FILE).read_bytes())
    return weights


def read_fit_report(path: Path, fields: Any) -> FitReport | None:
    """Return the report in a manifest, if there is one; raise a BundleError if it is damaged."""
    if fields is None:
        return None
    try:
        return FitReport(**fields)
    except TypeError as error:
        raise BundleError(f"{path / MANIFEST} is damaged: {error}. Save the bundle again.") from error


def read_learned_ids(file: Path) -> NDArray[np.uint64]:
    """Read the hashes of ids; raise a BundleError if the file cannot be read."""
    try:
        ids = np.load(file, allow_pickle=False)
        if ids.ndim != 1 or ids.dtype != np.uint64:
            raise ValueError(f"an array of shape {ids.shape} of {ids.dtype}")
    except Exception as error:  # damaged arrays end in errors of many kinds
        raise BundleError(f"{file} cannot be read: {error!r}. Save the bundle again.") from error
    found: NDArray[np.uint64] = ids
    return found


def pin_graph(path: Path, digests: Mapping[str, str]) -> PinnedGraph:
    """Return the graph of a bundle, which stays what it is if the bundle is replaced."""
    stem = Path(GRAPH_FILE).stem
    belongs = (f"{stem}.", f"{INPUTS_FOLDER}/")
    files = {name: digest for name, digest in digests.items() if name.startswith(belongs)}
    return PinnedGraph(PinnedFiles(path, files), GRAPH_FILE)


def read_familiarity(path: Path) -> Familiarity:
    """Read what tells whether features are familiar; raise a BundleError if the file cannot be read."""
    try:
        with np.load(path / FAMILIAR_FILE, allow_pickle=False) as arrays:
            return Familiarity.from_arrays(arrays)
    except Exception as error:  # damaged archives and arrays end in errors of many kinds
        raise BundleError(f"{path / FAMILIAR_FILE} cannot be read: {error!r}. Save the bundle again.") from error


def check_inputs(graph: ExportedGraph) -> None:
    """Raise a BundleError if the tokenizer is not the one that the graph was made with."""
    try:
        graph.input_spec  # noqa: B018
    except InputError as error:
        raise BundleError(str(error)) from error
