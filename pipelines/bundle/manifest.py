"""The manifest of a bundle: what it must contain, and the digest of every other file."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import BundleError
from ...heads.persistence import head_files
from ...identity import digest_of_file

BUNDLE_FORMAT = 1
MANIFEST = "bundle.json"
GRAPH_FILE = "extractor.onnx"
LEARNED_FILE = "learned.npy"
"""The hashes of the ids that the head was trained on, see :func:`topwork.pipelines.bundle.lineage.hash_ids`."""
UPPER_FILE = "upper.safetensors"
"""The weights of layers that were trained, by the names of the backbone's own parameters; predicting needs none."""
FINETUNING = "finetuning"
"""Entry of the manifest: which layers were trained, and how that went."""
FAMILIAR_FILE = "familiar.npz"
"""The training rows that new features are compared with, see :mod:`topwork.heads.familiarity`."""


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of the bundle in a folder.

    Raise a BundleError if there is none, it cannot be parsed, its format is another one, or it does not name a
    necessary file.
    """
    try:
        manifest = parse_manifest((path / MANIFEST).read_bytes())
        missing = find_missing_files(manifest["files"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"{path} is not a bundle: it has no {MANIFEST}. `topwork fit … --out DIR` writes one."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path / MANIFEST} cannot be read: {error!r}. Save the bundle again.") from error
    if manifest["format"] != BUNDLE_FORMAT:
        raise BundleError(
            f"{path} has format {manifest['format']}, expected {BUNDLE_FORMAT}: another version of topwork wrote it"
        )
    if missing:
        raise BundleError(f"{path / MANIFEST} does not name {', '.join(missing)}. Save the bundle again.")
    return manifest


def parse_manifest(content: bytes) -> dict[str, Any]:
    """Parse a manifest; raise a ValueError, KeyError or TypeError if it lacks an entry that every version writes."""
    manifest: dict[str, Any] = json.loads(content)
    for name in ("format", "classes", "head"):
        manifest[name]
    manifest["training"]["rows"]
    dict(manifest["files"])
    return manifest


def find_missing_files(names: Collection[str]) -> list[str]:
    """Return the files that every bundle has and a manifest does not name, in words."""
    missing = []
    if GRAPH_FILE not in names:
        missing.append(GRAPH_FILE)
    if not head_files(names):
        missing.append("a head (head.skops, or head.json and head.safetensors)")
    return missing


def digest_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder and its sub-folders, by relative POSIX path."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): digest_of_file(file) for file in files}


def check_files(path: Path, digests: dict[str, str]) -> None:
    """Compare the files of a bundle with their SHA-256, given by relative POSIX path.

    Raise a BundleError if a file is missing, was changed, or would lie outside the bundle.
    """
    for name, digest in digests.items():
        if not is_within_folder(name):
            raise BundleError(f"{path / MANIFEST} names {name!r}; expected a file within the bundle")
        if not (path / name).is_file():
            raise BundleError(f"{path / name} is missing; copy the whole bundle again")
        if digest_of_file(path / name) != digest:
            raise BundleError(
                f"{path / name} does not match the digest in {MANIFEST}: it was changed or damaged. "
                "Copy or save the bundle again."
            )


def is_within_folder(name: str) -> bool:
    """Return whether a POSIX path stays below the folder that it is relative to."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name
