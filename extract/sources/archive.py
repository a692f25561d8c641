"""A tar archive of images, texts or tensors; the folders in it are the labels."""

from __future__ import annotations

import contextlib
import io
import itertools
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Self

from ...errors import DecodeError, SourceError
from .file import check_regular, check_size
from .identifiers import SPLIT_NAMES, UniqueIds, label_and_split, storable_text
from .item import Item
from .item_kinds import ITEM_KINDS

PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
HEADERS_OF_HEADERS = (*PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
"""Types of members that say more about the next one: pax, and long names and links of GNU."""
LONGEST_HEADER = 65_536
"""Bytes of such a member; Python 3.11 takes minutes to look through a megabyte of digits."""
LARGEST_MEMBER = 2**62
DAMAGED = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]


class ArchiveSource:
    """All items of a tar, in the archive's order.

    Links, devices and members whose name leaves the archive's root are refused: they are left out and counted.
    An uncompressed archive is read at random places by several threads, a compressed one from start to end. Archives
    that were joined are one.

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
        names = []
        with _opened(path) as archive:
            self._compressed = not isinstance(archive.fileobj, io.BufferedReader)
            for member in _each(archive):
                if _is_wanted(member, kind):
                    names.append(storable_text(member.name))
                elif not member.isdir():
                    self.ignored += 1
        self._length = len(names)
        self._prefix = _common_folder(names)

    def __len__(self) -> int:
        """Return the number of items."""
        return self._length

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in the archive's order."""
        unique = UniqueIds()
        with _opened(self.path) as archive:
            for member in _each(archive):
                if _is_wanted(member, self.kind):
                    identifier = PurePosixPath(storable_text(member.name)).as_posix()
                    label, split = label_and_split(identifier.removeprefix(self._prefix))
                    read = self._content(archive, member)
                    yield Item(unique(identifier), read, label, split, member.size)  # times are often constant

    def _content(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], bytes]:
        """Return what reads a member, from a compressed archive at once."""
        try:
            check_size(member.size)
            _check_pieces(member, archive.offset - member.offset_data)
        except DecodeError as error:
            return partial(_refuse, error)
        if self._compressed:
            return partial(bytes, _read(archive, member))
        if member.issparse():
            return partial(_read_sparse, self.path, member)
        return partial(_read_at, self.path, member.offset_data, member.size)


class _Header(tarfile.TarInfo):
    """A header that is sound, or an error; tarfile itself would take a damaged one for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Return what a block says, without what follows it."""
        header = super().frombuf(buf, encoding, errors)
        if not 0 <= header.size < (LONGEST_HEADER if header.type in HEADERS_OF_HEADERS else LARGEST_MEMBER):
            raise tarfile.ReadError(f"a header gives a size of {header.size:,} bytes")
        return header

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """Return the next member."""
        assert tarfile_.fileobj is not None
        start = tarfile_.fileobj.tell()
        try:
            member = super().fromtarfile(tarfile_)
        except DAMAGED as error:
            raise tarfile.ReadError(f"{error} at byte {start:,}") from error
        if not 0 <= member.size < LARGEST_MEMBER or tarfile_.offset <= start:
            raise tarfile.ReadError(f"the header at byte {start:,} gives a size of {member.size:,} bytes")
        return member


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        check_regular(path)
        with tarfile.open(path, "r:*", tarinfo=_Header, ignore_zeros=True) as archive:
            yield archive
    except Exception as error:  # a damaged archive ends in errors of many kinds
        raise SourceError(
            f"archive {path} cannot be read: {_cause(error)}. Expected a whole .tar, .tar.gz or .tgz that may be read; "
            "pack it again, or unpack what is left of it and give the folder."
        ) from error


def _cause(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "too many headers follow one another"
    if "could not be opened" in str(error):
        return "no archive, or one whose start is damaged"
    if isinstance(error, (ValueError, LookupError, OverflowError)):
        return "a damaged header"
    known = error.strerror if isinstance(error, OSError) else None
    return known or str(error) or type(error).__name__


def _each(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members without keeping them, as there may be millions."""
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]
        yield member


def _is_wanted(member: tarfile.TarInfo, kind: str) -> bool:
    """Tell whether a member is an item inside the archive's root: no link, device or absolute name."""
    path = PurePosixPath(member.name)
    is_inside = not path.is_absolute() and ".." not in path.parts
    return member.isfile() and is_inside and ITEM_KINDS[kind].matches(member.name)


def _common_folder(names: list[str]) -> str:
    """Return the folder that all members share, with a slash, if there are folders below it and it names no split."""
    folders = sorted({PurePosixPath(name).parts[:-1] for name in names})
    if not folders:
        return ""
    first, last = folders[0], folders[-1] if len(folders) > 1 else folders[0][:-1]
    pairs = zip(first, last, strict=False)
    shared = itertools.takewhile(lambda pair: pair[0] == pair[1] and pair[0].lower() not in SPLIT_NAMES, pairs)
    return "".join(f"{part}/" for part, _ in shared)


def _check_pieces(member: tarfile.TarInfo, stored: int) -> None:
    """Refuse a member that is more than is stored of it, or whose pieces overlap: tarfile would never end."""
    pieces: Any = [(0, member.size)] if member.sparse is None else member.sparse
    end = total = 0
    for offset, length in pieces:
        if length < 0 or (length and offset < end):
            raise DecodeError("the pieces of this sparse member overlap")
        end, total = max(end, offset + length), total + length
    if end > member.size or total > stored:
        raise DecodeError(f"{stored:,} bytes are stored of this member; expected {max(end, total):,}")


def _refuse(error: DecodeError) -> bytes:
    raise error


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    assert stream is not None
    return stream.read()


def _read_sparse(path: Path, member: tarfile.TarInfo) -> bytes:
    try:
        with tarfile.open(path, "r:") as archive:
            return _read(archive, member)
    except tarfile.TarError as error:
        raise OSError(f"the archive has changed: {error}") from error


def _read_at(path: Path, offset: int, size: int) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(offset)
        content = stream.read(size)
    if len(content) < size:
        raise OSError("the archive has changed: it is shorter")
    return content
