"""A tar archive of image, text or tensor files; the folders in it are the labels."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Self

from ...errors import DecodeError, SourceError
from .file import check_regular, check_size
from .identifiers import UniqueIds, storable_text
from .item import Item
from .item_kinds import ITEM_KINDS
from .path_labels import find_layout, lies_in_system_folder, list_folders, stays_inside
from .sidecars import Sidecars
from .zstd import ZstdStream, is_zstd

TAR_SUFFIXES = (
    *(".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2"),
    *(".tar.xz", ".txz", ".tar.zst", ".tzst"),
)
EXTENSION_TYPES = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),  # pax
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
"""Types of members that describe the next one: pax headers, and long names and links of GNU."""
MAX_EXTENSION_BYTES = 65_536
"""Size of such a member; Python 3.11 takes minutes to look through a megabyte of digits."""
MAX_MEMBER_BYTES = 2**62
MAX_ZERO_BLOCKS = 2**14
"""Blocks of zeros (8 MiB) that may follow one another, as at the end of each of several archives; usual are 20."""
HEADER_ERRORS = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]


class ArchiveSource:
    """All items of a tar, in the archive's order; its members are listed at once.

    Symbolic links, devices and members whose name leaves the archive's root are refused: they are left out and counted.
    A hard link is the file that it names. Labels in sidecars (``.cls``, ``.json``) precede those of folders. An
    uncompressed archive is read at random places by several threads, a compressed one from start to end. Archives that
    were concatenated are one. The `kind` decides which members are items: those with an image's ending, ``.txt``, or
    ``.npy``.
    """

    def __init__(self, path: Path, kind: str = "image") -> None:
        self.path = path
        self.kind = kind
        self.ignored = 0
        names = []
        files = set()
        self._linked: set[str] = set()
        self._sidecars = Sidecars(f"archive {path}")
        with open_archive(path) as archive:
            self._is_compressed = not isinstance(archive.fileobj, io.BufferedReader)
            for member in _each_member(archive):
                if is_wanted(member, kind):
                    names.append(storable_text(member.name))
                    files.add(member.name)
                elif is_wanted_link(member, kind) and member.linkname in files:
                    names.append(storable_text(member.name))
                    self._linked.add(member.linkname)
                elif member.isfile() and self._sidecars.is_sidecar(member.name, member.size):
                    self._sidecars.add(member.name, _read_member(archive, member))
                elif not member.isdir() and not lies_in_system_folder(member.name):
                    self.ignored += 1
        self._length = len(names)
        self._layout = find_layout({list_folders(name) for name in names})

    def __len__(self) -> int:
        """Return the number of items."""
        return self._length

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in the archive's order."""
        unique = UniqueIds()
        linked: dict[str, tuple[Callable[[], bytes], int]] = {}
        with open_archive(self.path) as archive:
            for member in _each_member(archive):
                if is_wanted(member, self.kind):
                    read = self._reader_of(archive, member)
                    size = member.size
                    if member.name in self._linked:
                        linked[member.name] = read, size
                elif is_wanted_link(member, self.kind) and member.linkname in linked:
                    read, size = linked[member.linkname]
                else:
                    continue
                identifier = PurePosixPath(storable_text(member.name)).as_posix()
                label, split = self._layout.label_and_split(identifier)
                label = self._sidecars.find_label(identifier) or label
                yield Item(unique(identifier), read, label=label, split=split, size=size)  # times are often constant

    def _reader_of(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], bytes]:
        """Return a function that reads a member; of a compressed archive it is read now."""
        try:
            check_size(member.size)
            check_segments(member, stored=archive.offset - member.offset_data)
        except DecodeError as error:
            return partial(raise_error, error)
        if self._is_compressed:
            return partial(bytes, _read_member(archive, member))
        if member.issparse():
            return partial(read_sparse, self.path, member)
        return partial(read_at, self.path, member.offset_data, member.size)


class StrictHeader(tarfile.TarInfo):
    """A header that is sound, or an error; tarfile itself would take a damaged one for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Return the fields of a block, without the blocks that follow it."""
        header = super().frombuf(buf, encoding, errors)
        limit = MAX_EXTENSION_BYTES if header.type in EXTENSION_TYPES else MAX_MEMBER_BYTES
        if not 0 <= header.size < limit:
            raise tarfile.ReadError(f"a header gives a size of {header.size:,} bytes")
        return header

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """Return the next member."""
        assert tarfile_.fileobj is not None
        start = tarfile_.fileobj.tell()
        try:
            member = super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            count_zero_block(tarfile_)
            raise
        except HEADER_ERRORS as error:
            raise tarfile.ReadError(f"{error} at byte {start:,}") from error
        tarfile_.n_zero_blocks = 0  # type: ignore[attr-defined]
        has_advanced = tarfile_.offset > start
        if not 0 <= member.size < MAX_MEMBER_BYTES or not has_advanced:
            raise tarfile.ReadError(f"the header at byte {start:,} gives a size of {member.size:,} bytes")
        return member


def count_zero_block(archive: tarfile.TarFile) -> None:
    """Raise a ReadError for more blocks of zeros in an archive than its ends explain: compressed, they cost nothing."""
    n_blocks: int = getattr(archive, "n_zero_blocks", 0) + 1
    archive.n_zero_blocks = n_blocks  # type: ignore[attr-defined]
    if n_blocks > MAX_ZERO_BLOCKS:
        size = MAX_ZERO_BLOCKS * tarfile.BLOCKSIZE
        raise tarfile.ReadError(f"more than {size:,} bytes of zeros are no files")


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive, and name it in every error that reading it raises.

    Raise a SourceError if it is no archive, damaged, or may not be read.
    """
    try:
        check_regular(path)
        if is_zstd(path):
            with (
                ZstdStream(path) as stream,
                tarfile.open(fileobj=stream, mode="r|", tarinfo=StrictHeader, ignore_zeros=True) as archive,
            ):
                yield archive
        else:
            with tarfile.open(path, "r:*", tarinfo=StrictHeader, ignore_zeros=True) as archive:
                yield archive
    except SourceError:
        raise
    except Exception as error:  # a damaged archive ends in errors of many kinds
        raise SourceError(
            f"archive {path} cannot be read: {explain(error)}. "
            "Expected a whole .tar, .tar.gz, .tar.bz2, .tar.xz or .tar.zst that may be read; "
            "pack it again, or unpack what is left of it and give the folder."
        ) from error


def explain(error: Exception) -> str:
    """Return the cause of an error that reading an archive raised."""
    if isinstance(error, RecursionError):
        return "too many headers follow one another"
    if "could not be opened" in str(error):
        return "no archive, or one whose start is damaged"
    if isinstance(error, (ValueError, LookupError, OverflowError)):
        return "a damaged header"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _each_member(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members without keeping them, as there may be millions."""
    member = archive.next()
    while member is not None:
        archive.members.clear()  # type: ignore[attr-defined]
        yield member
        member = archive.next()


def is_wanted(member: tarfile.TarInfo, kind: str) -> bool:
    """Return whether a member is an item inside the archive's root: no link, device or absolute name."""
    return member.isfile() and has_name_of_item(member, kind)


def is_wanted_link(member: tarfile.TarInfo, kind: str) -> bool:
    """Return whether a member is a hard link with the name of an item."""
    return member.islnk() and has_name_of_item(member, kind)


def has_name_of_item(member: tarfile.TarInfo, kind: str) -> bool:
    """Return whether a member's name is that of an item inside the archive's root."""
    is_inside = stays_inside(member.name) and not lies_in_system_folder(member.name)
    return is_inside and ITEM_KINDS[kind].matches(member.name)


def check_segments(member: tarfile.TarInfo, stored: int) -> None:
    """Raise a DecodeError for a member that has fewer bytes `stored` than its segments need, or overlapping segments.

    For these tarfile would never end.
    """
    segments: Any = [(0, member.size)] if member.sparse is None else member.sparse
    end = 0
    total = 0
    for offset, length in segments:
        if length < 0 or (length and offset < end):
            raise DecodeError("the segments of this sparse member overlap")
        end = max(end, offset + length)
        total += length
    if end > member.size or total > stored:
        raise DecodeError(f"{stored:,} bytes are stored of this member; expected {max(end, total):,}")


def raise_error(error: DecodeError) -> bytes:
    """Fail as the content of a member that may not be read."""
    raise error


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    assert stream is not None
    return stream.read()


def read_sparse(path: Path, member: tarfile.TarInfo) -> bytes:
    """Read a sparse file of an archive, whose bytes do not lie in one piece."""
    try:
        with tarfile.open(path, "r:") as archive:
            return _read_member(archive, member)
    except tarfile.TarError as error:
        raise OSError(f"the archive has changed: {error}") from error


def read_at(path: Path, offset: int, size: int) -> bytes:
    """Return bytes of a file; raise an OSError if it is shorter."""
    with open(path, "rb") as stream:
        stream.seek(offset)
        content = stream.read(size)
    if len(content) < size:
        raise OSError("the archive has changed: it is shorter")
    return content
