"""From what the user gave to a source of items."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import SourceError
from ...models.audio_spec import WINDOWS, AudioSpec
from ...models.input_spec import InputSpec
from .archive import TAR_SUFFIXES, ArchiveSource
from .array import array_source
from .folder import FolderSource, walk_tree
from .item import Source
from .item_kinds import ITEM_KINDS
from .path_labels import find_file_splits, is_system_folder, name_split
from .remote import FetchedSource, RemoteFolder, RemoteTable, file_ending
from .sequence import SequenceSource
from .several import SeveralSources, SourceNames, expand_pattern
from .table import METADATA_COLUMN, FolderTable, Table, TableSource
from .table_file import TABLE_SUFFIXES, has_column, is_datasets_folder
from .url import is_url, local_path
from .windows import WindowedSource, is_windowed
from .zip_archive import ZipSource

ARCHIVE_SUFFIXES = (*TAR_SUFFIXES, ".zip")
ARRAY_SUFFIXES = (".npy", ".npz")
SHARD_SUFFIXES = (*TABLE_SUFFIXES, *ARCHIVE_SUFFIXES)
"""Endings of the files in a folder that are sources themselves, where it holds no items."""
DATASETS_SPLITS = "dataset_dict.json"
"""File of a folder in which ``datasets`` saved several splits."""
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Tables of a folder's files, as image folders of the hub of Hugging Face have them."""
EXPECTED = (
    "a folder, a .zip or .tar (also .gz, .bz2, .xz, .zst), a .csv, .tsv, .jsonl or .parquet table, an .npy or .npz, or "
    "the URL of one"
)


OWN_FOLDERS = {
    ("store.json", "log"): "a feature store, whose features are computed: fit, evaluate and predict take it as it is",
    (
        "bundle.json",
        "extractor.json",
    ): "a bundle of topwork, which comes before the source, as in `topwork predict BUNDLE SOURCE`",
}
"""What the folders that topwork writes contain, and what to do with them."""


def open_source(
    source: Any, labels: Iterable[Any] | None = None, *, ids: Iterable[Any] | None = None, kind: str = "image"
) -> Source:
    """Return the items of a folder, an archive, a table, an array, the URL of one of these, or a Python sequence.

    Parameters
    ----------
    source : str, path, Table, iterable or Source
        A folder, whose sub-folders name the labels; a ``.zip`` or ``.tar`` (``.gz``, ``.bz2``, ``.xz``, ``.zst``); a
        table; an ``.npy`` whose rows are items, or an ``.npz`` of such an array ``X`` and labels ``y``; a pattern of
        several (``shards/*.parquet``, ``shard-{000..099}.tar``), or a folder of nothing else; a folder with a table
        ``metadata.csv`` (or ``.jsonl``, ``.parquet``) whose column ``file_name`` names files; the URL of any, as fsspec
        understands it; or paths, uint8 arrays and PIL images, strings, or arrays of numbers. A generator of these is
        iterated over once, and what it yields is kept.
    labels : iterable, optional
        One for each item of a sequence.
    ids : iterable, optional
        One for each item of a sequence, all different as text.
    kind : {"image", "text", "audio", "tensor"}
        Kind of input that the backbone expects.

    Raises
    ------
    SourceError
        If there is nothing to read, or no item in it.
    """
    if isinstance(source, SourceNames):
        return open_several(source.names, kind)
    if not isinstance(source, (str, Path, Table, Source)):
        return SequenceSource(source, labels, kind=kind, ids=ids)
    if ids is not None:
        raise SourceError(f"ids for a {type(source).__name__}, whose items have their own; they are for sequences")
    if isinstance(source, Source):
        return source
    place = source.file if isinstance(source, Table) else source
    names = expand_pattern(str(place))
    if names != [str(place)]:
        return open_several([rename_source(source, name) for name in names], kind)
    if is_url(place):
        opened = open_url(source, str(place), kind)
    elif isinstance(source, Table):
        opened = open_table(source, kind)
    else:
        opened = open_path(Path(source), kind)
    if not len(opened):
        has_rows = str(place).lower().endswith((*TABLE_SUFFIXES, *ARRAY_SUFFIXES))
        expected = "expected at least one row" if has_rows else ITEM_KINDS[kind].describe_files()
        raise SourceError(f"source {place} holds no {kind} items ({opened.ignored} other files); {expected}")
    return opened


def open_items(
    source: Any, spec: InputSpec, labels: Iterable[Any] | None = None, *, ids: Iterable[Any] | None = None
) -> Source:
    """Return the items of a source as :func:`open_source` for an input specification; long sounds may be divided."""
    opened = open_source(source, labels, ids=ids, kind=spec.kind)
    if isinstance(spec, AudioSpec) and spec.long == WINDOWS and not is_windowed(opened):
        return WindowedSource(opened, spec)
    return opened


def open_several(names: Sequence[str | Path | Table], kind: str) -> SeveralSources:
    """Return the items of several sources; files that are named after splits state those of their items."""
    places = [str(name.file if isinstance(name, Table) else name) for name in names]
    sources = [open_source(name, kind=kind) for name in names]
    return SeveralSources(sources, find_file_splits([Path(place).as_posix() for place in places]))


def rename_source(source: str | Path | Table, name: str) -> str | Table:
    """Return the source of another name, with the same columns if it is a table."""
    return replace(source, file=name) if isinstance(source, Table) else name


def open_url(source: str | Path | Table, url: str, kind: str) -> Source:
    """Open a local or remote source by the ending of its URL."""
    path = local_path(url)
    if path is not None:
        if isinstance(source, Table):
            return open_table(replace(source, file=path), kind)
        return open_path(path, kind)
    ending = file_ending(url)
    if isinstance(source, Table):
        return RemoteTable(source, kind)
    if ending in TABLE_SUFFIXES:
        return RemoteTable(Table(url), kind)
    if ending:
        return FetchedSource(url, partial(open_path, kind=kind))
    return RemoteFolder(url, kind)


def open_table(table: Table, kind: str) -> Source:
    """Return the rows of a table on disk; raise a SourceError if it does not exist, or is not a table."""
    check_exists(Path(table.file))
    return TableSource(table, kind)


def open_path(path: Path, kind: str) -> Source:
    """Return the items of a folder or file on disk, by its ending.

    Raise a SourceError if it does not exist, or is of an unknown kind.
    """
    check_exists(path)
    check_is_source(path, kind)
    name = path.name.lower()
    if name.endswith(TABLE_SUFFIXES) and path.is_file():
        return TableSource(Table(path), kind)
    if path.is_dir():
        return open_contents(path, kind)
    if name.endswith(".zip"):
        return ZipSource(path, kind)
    if name.endswith(TAR_SUFFIXES):
        return ArchiveSource(path, kind)
    if name.endswith(ARRAY_SUFFIXES):
        return array_source(path, kind)
    raise SourceError(f"source {path} is of an unknown kind; expected {EXPECTED}")


def open_contents(path: Path, kind: str) -> Source:
    """Return the items of a folder: its files, the rows of its table of metadata, or those of the sources in it."""
    if is_datasets_folder(path):
        return TableSource(Table(path), kind)
    if (path / DATASETS_SPLITS).is_file():
        return open_datasets_splits(path, kind)
    metadata = find_metadata(path)
    if metadata is not None:
        return FolderTable(metadata, kind)
    folders = [child for child in sorted(path.iterdir()) if child.is_dir() and not is_system_folder(child.name)]
    tables = [table for table in map(find_metadata, folders) if table is not None]
    if tables and len(tables) == len(folders):
        of_folders = [FolderTable(table, kind) for table in tables]
        return SeveralSources(of_folders, find_file_splits([f"{child.name}/{METADATA_FILES[0]}" for child in folders]))
    folder = FolderSource(path, kind)
    if len(folder):
        return folder
    files = [(inside.prefix, entry.name) for inside, entry in walk_tree(str(path), kind)]
    names = [f"{prefix}{name}" for prefix, name in files if not name.startswith(".")]
    shards = [name for name in names if name.lower().endswith(SHARD_SUFFIXES)]
    if not shards:
        return folder
    sources = [open_path(path / name, kind) for name in shards]
    return SeveralSources(sources, find_file_splits(shards))


def find_metadata(folder: Path) -> Path | None:
    """Return the table in a folder that names its files, None if there is none."""
    tables = [folder / name for name in METADATA_FILES if (folder / name).is_file()]
    return next((table for table in tables if has_column(table, METADATA_COLUMN)), None)


def open_datasets_splits(path: Path, kind: str) -> Source:
    """Return the items of a folder in which ``datasets`` saved several splits, each in a folder of its own."""
    try:
        names = json.loads((path / DATASETS_SPLITS).read_bytes())["splits"]
        splits = [name_split(name) for name in names]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"source {path}: its {DATASETS_SPLITS} names no splits; save the data set again") from error
    return SeveralSources([open_path(path / name, kind) for name in names], splits)


def check_is_source(path: Path, kind: str) -> None:
    """Raise a SourceError for a folder that topwork wrote, and for a file that is an item itself."""
    for names, description in OWN_FOLDERS.items():
        if all((path / name).exists() for name in names):
            raise SourceError(f"source {path} is {description}; expected a folder, archive or table of items")
    is_array = path.name.lower().endswith(ARRAY_SUFFIXES)
    if path.is_file() and not is_array and ITEM_KINDS[kind].matches(path.name):
        raise SourceError(
            f"source {path} is one {kind} item; expected the folder that it lies in, or a .csv table with a column path"
        )


def check_exists(path: Path) -> None:
    """Raise a SourceError if there is nothing at a path."""
    if not path.exists():
        raise SourceError(f"source {path} does not exist; expected {EXPECTED}")
