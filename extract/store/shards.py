"""Shards of a store: stores in its folder ``shards``, each filled by one job of an array until it is merged.

A shard whose job has ended has a file named after its last log entry. When it has been merged, its folder is replaced
by an empty file, so that the shards that are missing are known; these files go when none is missing.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...atomic import temporary_name, write_file
from ...errors import InputError, StoreError, StoreLockedError, warn_caller
from .content import StoreContent
from .description import add_first_columns, is_store, new_store, open_place, read_identity
from .lock import write_lock
from .merging import Merge, merge_store
from .remote_copy import RemoteCopy, find_copy

if TYPE_CHECKING:
    from .segment import Segment
    from .writer import StoreWriter

SHARDS_FOLDER = "shards"
FINISHED_FOLDER = "finished"
MERGED_SUFFIX = ".merged"
SHARD_TEXT = re.compile(r"(\d{1,9})/(\d{1,9})")
SHARD_NAME = re.compile(r"(\d+)-of-(\d+)")


@dataclass(frozen=True, order=True)
class Shard:
    """One of `count` shares of a source, numbered from 0.

    Examples
    --------
    >>> str(Shard.parse("3/64")), Shard.parse("3/64").folder
    ('3/64', 'shards/0003-of-0064')
    """

    count: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``"3/64"``; raise an InputError if it names no shard."""
        match = SHARD_TEXT.fullmatch(text) if isinstance(text, str) else None
        if match is None or int(match[1]) >= int(match[2]):
            raise InputError(f"shard {text!r}: expected NUMBER/COUNT, from 0/64 to 63/64 for 64 shards")
        return cls(int(match[2]), int(match[1]))

    @property
    def folder(self) -> str:
        """Its folder within the store."""
        return f"{SHARDS_FOLDER}/{self.number:04d}-of-{self.count:04d}"

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


class DiskFolder:
    """The folder of a store on disk, with the part of the interface of :class:`RemoteCopy` that shards need."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def place(self, name: str) -> str:
        """Return the path of a file or folder in it."""
        return str(self.path / name)

    def exists(self, name: str) -> bool:
        """Return whether there is a file of a name."""
        return (self.path / name).is_file()

    def list_names(self, folder: str) -> list[str]:
        """Return the names of files and folders in a folder, none if it does not exist."""
        return sorted(path.name for path in (self.path / folder).glob("*"))

    def create(self, name: str, content: bytes) -> None:
        """Write a file."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        write_file(path, content)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it, at once, as far as others see it."""
        path = self.path / name
        temporary = path.with_name(temporary_name())
        with contextlib.suppress(FileNotFoundError):
            path.rename(temporary)
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)


def find_folder(store: StoreContent) -> DiskFolder | RemoteCopy:
    """Return where the files of a store are."""
    return find_copy(store.path) or DiskFolder(store.path)


def open_shard(store: StoreContent, shard: Shard) -> str:
    """Return the place of a shard's own store, which is created with the graph and the columns of the whole store."""
    folder = find_folder(store)
    place = folder.place(shard.folder)
    folder.remove(shard.folder + MERGED_SUFFIX)
    if not is_store(place):
        try:
            with new_store(place, store.identity) as new:
                add_first_columns(new, store.graph, store.columns[0].dtype, link=True)
        except (FileExistsError, StoreError):
            if not is_store(place):  # otherwise another process created it first
                raise
    return place


def finish_shard(store: StoreContent, n_items: int) -> None:
    """Note that the job of a shard has ended, and how many items the whole source had."""
    find_folder(store).create(f"{FINISHED_FOLDER}/{store.entries[-1].digest}-{n_items}", b"")


def find_source_size(store: StoreContent) -> int | None:
    """Return the number of items that the source of a shard had; None unless its job ended with what it now holds."""
    end = f"{store.entries[-1].digest}-"
    names = [name for name in find_folder(store).list_names(FINISHED_FOLDER) if name.startswith(end)]
    return int(names[-1].removeprefix(end)) if names else None


def merge_shards(writer: StoreWriter) -> Merge:
    """Add the items of all shards to their store; the folders of those that are finished are removed."""
    merge = Merge()
    unfinished = []
    sizes: dict[Shard, int] = {}
    known: dict[int, Segment] = {}
    for shard in list_shards(writer.store):
        if shard.count not in known:  # shards of one number of them have no item in common
            known = {shard.count: writer.index.settle()}
        size = merge_shard(writer, shard, merge, known[shard.count])
        if size is None:
            unfinished.append(shard)
        else:
            sizes[shard] = size
    for count in sorted({shard.count for shard in sizes}):
        found = sorted({size for shard, size in sizes.items() if shard.count == count})
        if len(found) > 1:
            warn_caller(
                f"the source had {found[0]} items for some of the {count} shards, and {found[-1]} for others: it was "
                "changed meanwhile, and items may be in no share. `topwork extract` without --shard computes them."
            )
    merged = list_shards(writer.store, MERGED_SUFFIX)
    missing = find_missing([*merged, *unfinished])
    for shard in merged:
        if shard.count not in {other.count for other in (*unfinished, *missing)}:
            find_folder(writer.store).remove(shard.folder + MERGED_SUFFIX)
    merge.merged, merge.unfinished, merge.missing = (list(map(str, some)) for some in (merged, unfinished, missing))
    return merge


def find_missing(known: Collection[Shard]) -> list[Shard]:
    """Return the shards that are not among the known ones, for each number of shards that these are of."""
    counts = sorted({shard.count for shard in known})
    return [shard for count in counts for shard in all_shards(count) if shard not in known]


def all_shards(count: int) -> list[Shard]:
    """Return all shards of a number of them."""
    return [Shard(count, number) for number in range(count)]


def merge_shard(writer: StoreWriter, shard: Shard, merge: Merge, known: Segment) -> int | None:
    """Add the items of a shard to its store, and remove its folder if it is finished.

    Return the number of items that its source had, None if it is unfinished. What a finished shard computed is what
    the store lacked; of an unfinished one, which may be of an earlier round, only what is missing is taken.
    """
    folder = find_folder(writer.store)
    path = open_place(folder.place(shard.folder))
    store = StoreContent(path, read_identity(path))
    with hold_shard(path) as is_held:
        try:
            store.refresh()
            size = find_source_size(store) if is_held else None
            merge_store(writer, store, "this" if size is None else "newer", merge, known)
        finally:
            store.release()
        if size is not None:  # while no other job can begin to write to it
            folder.create(shard.folder + MERGED_SUFFIX, b"")
            close_shard(folder, shard, store)
    return size


def close_shard(folder: DiskFolder | RemoteCopy, shard: Shard, store: StoreContent) -> None:
    """Remove the folder of a shard whose items are in the store."""
    copy = find_copy(store.path)
    if copy is not None:  # a job of another machine that runs it again gets an error
        copy.create(f"log/{store.entries[-1].number + 1:010d}.json", b"merged")
        copy.begin_removal()
        copy.forget()
    folder.remove(shard.folder)


@contextlib.contextmanager
def hold_shard(path: Path) -> Iterator[bool]:
    """Yield whether no job of this machine is writing to a shard; none can start inside the block if so."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(write_lock(path))
        except StoreLockedError:
            yield False
        else:
            yield True


def list_shards(store: StoreContent, suffix: str = "") -> list[Shard]:
    """Return the shards of a store that have a folder, or else a file with a suffix."""
    folder = find_folder(store)
    found = []
    for name in folder.list_names(SHARDS_FOLDER):
        match = SHARD_NAME.fullmatch(name.removesuffix(suffix))
        if match is not None and name.endswith(suffix):
            shard = Shard(int(match[2]), int(match[1]))
            if suffix or is_store(folder.place(shard.folder)):
                found.append(shard)
    return sorted(found)
