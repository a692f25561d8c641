"""Labels and splits that paths state, and the names of splits."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

TRAINING_SPLIT = "train"
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Split of each name that a folder has, in lower case."""
DOUBTFUL_SPLIT_NAMES = {
    "dev": "dev",
    "eval": "eval",
    "evaluation": "eval",
    "testing": "test",
    "holdout": "holdout",
    "held_out": "holdout",
    "held-out": "holdout",
}
"""Split of names that may also be those of classes: of folders, where a folder for training lies beside them."""
ALL_SPLIT_NAMES = SPLIT_NAMES | DOUBTFUL_SPLIT_NAMES
"""Split of each name that a cell of a table has, in lower case."""
SPLIT_WORD = re.compile(rf"(?<![^-_.\s])(?:{'|'.join(sorted(ALL_SPLIT_NAMES, key=len, reverse=True))})(?![^-_.\s])")
"""Name of a split between the ends of a file's name, hyphens, underscores, points and spaces."""
HELD_OUT_SPLITS = frozenset(ALL_SPLIT_NAMES.values()) - {TRAINING_SPLIT}
"""Splits whose items are never trained on."""
SYSTEM_FOLDERS = frozenset({"@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
"""Folders of copies, thumbnails and deleted files that systems make."""


@dataclass(frozen=True)
class FolderLayout:
    """What the folders of a source stand for; found by :func:`find_layout`.

    Parameters
    ----------
    shared : tuple of str
        Folders that all others lie in, which say nothing.
    splits : frozenset of str
        Names of folders below them that are splits, in lower case.
    """

    shared: tuple[str, ...] = ()
    splits: frozenset[str] = frozenset(SPLIT_NAMES)

    def label_and_split(self, name: str) -> tuple[str | None, str | None]:
        """Return label and split of a file: the first folder below the shared ones is its label, or else a split."""
        folders = list_folders(name)
        if folders[: len(self.shared)] != self.shared:
            return None, None
        folders = folders[len(self.shared) :]
        split = None
        if folders and folders[0].lower() in self.splits:
            split = ALL_SPLIT_NAMES[folders[0].lower()]
            folders = folders[1:]
        label = normalize_label(folders[0]) if folders else None
        return label, split


def find_layout(folders: Iterable[tuple[str, ...]]) -> FolderLayout:
    """Return the layout of a source, given the folders that its items lie in.

    A folder that all others lie in is a shared one if there are several below it, or splits; items beside folders
    change nothing.

    Examples
    --------
    >>> find_layout([("photos", "ants"), ("photos", "bees")]).label_and_split("photos/ants/1.jpg")
    ('ants', None)
    >>> find_layout([("data", "train", "ants"), ("data", "dev", "ants")]).label_and_split("data/dev/ants/1.jpg")
    ('ants', 'dev')
    """
    known = {folder for folder in folders if folder}
    shared: tuple[str, ...] = ()
    only = find_only_folder(known, shared)
    while is_shared(known, only):
        shared = only
        only = find_only_folder(known, shared)
    names = {folder[len(shared)].lower() for folder in known if len(folder) > len(shared)}
    splits = set(SPLIT_NAMES)
    if any(SPLIT_NAMES.get(name) == TRAINING_SPLIT for name in names):
        splits |= set(DOUBTFUL_SPLIT_NAMES)
    return FolderLayout(shared, frozenset(splits))


def find_file_splits(names: Sequence[str]) -> list[str | None]:
    """Return the split that the name of each file states, if one of them is for training; else None for all.

    The first folder or word that is the name of a split counts; folders that all files lie in say nothing.

    Examples
    --------
    >>> find_file_splits(["data/train-00000-of-00002.parquet", "data/validation.parquet", "data/other.parquet"])
    ['train', 'val', None]
    >>> find_file_splits(["/test/a/train.csv", "/test/a/held_out.csv"])
    ['train', 'holdout']
    """
    shared = find_shared_folders(names)
    names = ["/".join(PurePosixPath(name).parts[shared:]) for name in names]
    splits = [find_split_word(name) for name in names]
    return splits if TRAINING_SPLIT in splits else [None] * len(names)


def find_shared_folders(names: Sequence[str]) -> int:
    """Return how many of the outermost folders all files have in common."""
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    count = 0
    for level in zip(*folders, strict=False):
        if len(set(level)) > 1:
            break
        count += 1
    return count


def find_split_word(name: str) -> str | None:
    """Return the split that the first suitable folder or word of a file's name states, None if there is none."""
    for part in PurePosixPath(name.lower()).parts:
        found = SPLIT_WORD.search(part)
        if found is not None:
            return ALL_SPLIT_NAMES[found.group()]
    return None


def find_only_folder(folders: Iterable[tuple[str, ...]], parent: tuple[str, ...]) -> tuple[str, ...]:
    """Return the folder in a parent that all others lie in; the empty tuple if there are several, or none."""
    below = {folder[: len(parent) + 1] for folder in folders if len(folder) > len(parent)}
    return below.pop() if len(below) == 1 else ()


def is_shared(folders: set[tuple[str, ...]], folder: tuple[str, ...]) -> bool:
    """Return whether a folder in which all others lie says nothing: it is neither a split nor the only label."""
    if not folder or folder[-1].lower() in SPLIT_NAMES:
        return False
    below = {other[len(folder) :] for other in folders if len(other) > len(folder)}
    if len({names[0] for names in below}) > 1:
        return True
    if any(name.lower() in SPLIT_NAMES for names in below for name in names):
        return True
    return bool(below) and folder not in folders


def list_folders(name: str) -> tuple[str, ...]:
    """Return the folders of a file's name, the outermost first."""
    return PurePosixPath(name).parts[:-1]


def is_system_folder(name: str) -> bool:
    """Return whether a folder is hidden, or made by a system: what lies in it are no items."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def lies_in_system_folder(name: str) -> bool:
    """Return whether a file lies in a folder that is hidden, or made by a system."""
    return any(is_system_folder(folder) for folder in list_folders(name) if folder != "..")


def stays_inside(name: str) -> bool:
    """Return whether a member of an archive would be unpacked below the archive's root."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def normalize_label(label: str) -> str:
    """Return a label in Unicode's composed form (NFC), as macOS decomposes the names of files."""
    return label if label.isascii() else unicodedata.normalize("NFC", label)


def is_held_out(split: str | None) -> bool:
    """Return whether a split is one whose items are never trained on."""
    return split is not None and name_split(split) in HELD_OUT_SPLITS


def name_split(cell: str) -> str:
    """Return the split that a cell of a table names."""
    return ALL_SPLIT_NAMES.get(cell.lower(), cell)
