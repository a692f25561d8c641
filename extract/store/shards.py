"""Shards of a store: stores in its folder ``shards``, each filled by one job of an array until it is merged.

A shard whose job has ended holds a file that names its last log entry. When it has been merged its folder is replaced
by an empty file of that name, so that the shards that are missing are known; these files go when none is missing.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...atomic import temporary_name, write_file
from ...errors import InputError, StoreError, StoreLockedError
from .content import StoreContent
from .description import add_first_columns, is_store, new_store, read_identity
from .lock import write_lock
from .merging import Merge, merge_store

if TYPE_CHECKING:
    from .writer import StoreWriter

SHARDS_FOLDER = "shards"
FINISHED_FILE = "finished.json"
MERGED_SUFFIX = ".merged"
SHARD_TEXT = re.compile(r"(\d{1,9})/(\d{1,9})")
SHARD_NAME = re.compile(r"(\d+)-of-(\d+)")


@dataclass(frozen=True, order=True)
class Shard:
    """One of `count` shares of a source, numbered from 0.

    Examples
    --------
    >>> str(Shard.parse("3/64")), Shard.parse("3/64").name
    ('3/64', '0003-of-0064')
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
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.number:04d}-of-{self.count:04d}"

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def open_shard(store: StoreContent, shard: Shard) -> Path:
    """Return the folder of a shard's own store, which is created with the graph and the columns of the whole store."""
    path = store.path / SHARDS_FOLDER / shard.name
    path.with_suffix(MERGED_SUFFIX).unlink(missing_ok=True)
    if not is_store(path):
        try:
            with new_store(path, store.identity) as folder:
                add_first_columns(folder, store.graph, store.columns[0].dtype, link=True)
        except (FileExistsError, StoreError):
            if not is_store(path):  # otherwise another process created it first
                raise
    return path


def finish_shard(store: StoreContent) -> None:
    """Note that the job of a shard has ended."""
    write_file(store.path / FINISHED_FILE, json.dumps({"entry": store.entries[-1].digest}).encode())


def is_finished(store: StoreContent) -> bool:
    """Return whether the job of a shard ended with what its store now holds."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        entry: str = json.loads((store.path / FINISHED_FILE).read_bytes())["entry"]
        return entry == store.entries[-1].digest
    return False


def merge_shards(writer: StoreWriter) -> Merge:
    """Add the items of all shards to their store; the folders of those that are finished are removed."""
    root = writer.store.path
    merge = Merge()
    unfinished = []
    for shard, path in sorted(list_shards(root)):
        if merge_shard(writer, path, merge):
            write_file(path.with_suffix(MERGED_SUFFIX), b"")
            remove_folder(path)
        else:
            unfinished.append(shard)
    merged = sorted(shard for shard, _ in list_shards(root, MERGED_SUFFIX))
    missing = find_missing([*merged, *unfinished])
    for shard in merged:
        if shard.count not in {other.count for other in (*unfinished, *missing)}:
            (root / SHARDS_FOLDER / f"{shard.name}{MERGED_SUFFIX}").unlink()
    merge.merged, merge.unfinished, merge.missing = (list(map(str, some)) for some in (merged, unfinished, missing))
    return merge


def find_missing(known: Collection[Shard]) -> list[Shard]:
    """Return the shards that are not among the known ones, for each number of shards that these are of."""
    counts = sorted({shard.count for shard in known})
    return [shard for count in counts for shard in all_shards(count) if shard not in known]


def all_shards(count: int) -> list[Shard]:
    """Return all shards of a number of them."""
    return [Shard(count, number) for number in range(count)]


def merge_shard(writer: StoreWriter, path: Path, merge: Merge) -> bool:
    """Add the items of a shard to its store; return whether it is finished.

    What a finished shard computed is newer than what the store has, as its job computes what the store lacks. Of an
    unfinished one, which may be older, only what is missing is taken.
    """
    shard = StoreContent(path, read_identity(path))
    try:
        with hold_shard(path) as is_held:
            shard.refresh()
            is_done = is_held and is_finished(shard)
            merge_store(writer, shard, "other" if is_done else "this", merge)
    finally:
        shard.release()
    return is_done


@contextlib.contextmanager
def hold_shard(path: Path) -> Iterator[bool]:
    """Yield whether no job is writing to a shard; none can start inside the block if so."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(write_lock(path))
        except StoreLockedError:
            yield False
        else:
            yield True


def list_shards(root: Path, suffix: str = "") -> Iterator[tuple[Shard, Path]]:
    """Yield the shards of a store whose folder is there, or whose file with a suffix, in any order."""
    for path in (root / SHARDS_FOLDER).glob(f"*-of-*{suffix}"):
        match = SHARD_NAME.fullmatch(path.name.removesuffix(suffix))
        if match is not None and (suffix or is_store(path)):
            yield Shard(int(match[2]), int(match[1])), path


def remove_folder(path: Path) -> None:
    """Remove a folder at once, as far as others see it."""
    temporary = path.with_name(temporary_name())
    path.rename(temporary)
    shutil.rmtree(temporary, ignore_errors=True)
