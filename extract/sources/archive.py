"""A tar archive of images, texts or tensors; the folders in it are the labels."""

from __future__ import annotations

import contextlib
import itertools
import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import SourceError
from ..item import Item
from .labelling import SPLITS, UniqueIds, is_item, label_and_split, text_of


class ArchiveSource:
    """All items of a tar, in the archive's order.

    Links, devices and members whose name leaves the archive's root are refused: they are left out and counted.
    An uncompressed archive is read at random places by several threads, a compressed one from start to end.

    Parameters
    ----------
    path : Path
        Its members are listed at once.
    kind : {"image", "text", "tensor"}
        Which members are items: those with an image's ending, ``.txt``, or ``.npy``.
    """

    def __init__(self, path: Path, kind: str = "image") -> None:
        self.path, self.kind = path, kind
        self.ignored = 0
        self._compressed = not tarfile_is_plain(path)
        names = [text_of(member.name) for member in self._wanted(count=True)]
        self._length = len(names)
        self._prefix = _common_folder(names)

    def __len__(self) -> int:
        """Return the number of items."""
        return self._length

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in the archive's order."""
        unique = UniqueIds()
        for member, content in self._members():
            identifier = PurePosixPath(text_of(member.name)).as_posix()
            label, split = label_and_split(identifier.removeprefix(self._prefix))
            yield Item(unique(identifier), content, label, split, member.size)  # times in archives are often constant

    def _members(self) -> Iterator[tuple[tarfile.TarInfo, Any]]:
        if not self._compressed:
            for member in self._wanted():
                yield member, partial(_read_at, self.path, member.offset_data, member.size)
            return
        with _opened(self.path) as archive:
            for member in archive:
                if _is_wanted(member, self.kind):
                    stream = archive.extractfile(member)
                    assert stream is not None
                    content = stream.read()
                    yield member, partial(bytes, content)

    def _wanted(self, count: bool = False) -> Iterator[tarfile.TarInfo]:
        with _opened(self.path) as archive:
            for member in archive:
                if _is_wanted(member, self.kind):
                    yield member
                elif count and not member.isdir():
                    self.ignored += 1


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:*") as archive:
            yield archive
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise SourceError(f"archive {path} cannot be read: {error}. Expected a .tar, .tar.gz or .tgz") from error


def tarfile_is_plain(path: Path) -> bool:
    """Tell whether an archive's members lie in the file as they are."""
    try:
        with tarfile.open(path, "r:"):
            return True
    except tarfile.TarError:
        return False


def _is_wanted(member: tarfile.TarInfo, kind: str) -> bool:
    """Tell whether a member is an item inside the archive's root: no link, device or absolute name."""
    path = PurePosixPath(member.name)
    return member.isfile() and not path.is_absolute() and ".." not in path.parts and is_item(member.name, kind)


def _common_folder(names: list[str]) -> str:
    """Return the folder that all members share, with a slash, if there are folders below it and it names no split."""
    folders = sorted({PurePosixPath(name).parts[:-1] for name in names})
    if not folders:
        return ""
    first, last = folders[0], folders[-1] if len(folders) > 1 else folders[0][:-1]
    pairs = zip(first, last, strict=False)
    shared = itertools.takewhile(lambda pair: pair[0] == pair[1] and pair[0].lower() not in SPLITS, pairs)
    return "".join(f"{part}/" for part, _ in shared)


def _read_at(path: Path, offset: int, size: int) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(offset)
        return stream.read(size)
