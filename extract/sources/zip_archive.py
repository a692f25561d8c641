"""A zip archive of image, text or tensor files; the folders in it are the labels."""

from __future__ import annotations

import lzma
import threading
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from zipfile import ZipFile, ZipInfo

from ...errors import DecodeError, SourceError, reason
from .file import check_regular
from .identifiers import UniqueIds, storable_text
from .item import Item
from .item_kinds import ITEM_KINDS
from .path_labels import find_layout, lies_in_system_folder, list_folders, stays_inside
from .sidecars import Sidecars
from .zip_member import read_member

ENCRYPTED_FLAG = 1
"""Bit of a member's flags."""
WINDOWS = 0
"""System of members that programs of Windows packed."""
COMPRESSION_ERRORS = (zlib.error, lzma.LZMAError, OSError)
"""Errors of damaged data; that of bzip2 is an OSError without a number."""


class ZipSource:
    """All items of a zip, sorted by name; its directory is read at once, members when they are needed.

    Members whose name leaves the archive's root are left out and counted. The `kind` decides which members are items:
    those with an image's ending, ``.txt``, or ``.npy``.
    """

    def __init__(self, path: Path, kind: str = "image") -> None:
        self.path = path
        self.kind = kind
        self._archive = open_zip(path)
        self._lock = threading.Lock()
        members = self._archive.infolist()
        for member in members:
            member.filename = normalize_name(member)
        files = [member for member in members if is_file(member)]
        wanted = [member for member in files if is_wanted(member, kind)]
        self._members = sorted(wanted, key=lambda member: PurePosixPath(member.filename).parts)
        self._sidecars = Sidecars(f"archive {path}")
        sidecars = [member for member in files if self._sidecars.is_sidecar(member.filename, member.file_size)]
        for member in sidecars:
            self._sidecars.add(member.filename, self._read_sidecar(member))
        self.ignored = len(files) - len(self._members) - len(sidecars)
        self._layout = find_layout({list_folders(member.filename) for member in self._members})

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._members)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, without times, which zips keep to two seconds only."""
        unique = UniqueIds()
        for member in self._members:
            identifier = PurePosixPath(storable_text(member.filename)).as_posix()
            label, split = self._layout.label_and_split(identifier)
            label = self._sidecars.find_label(identifier) or label
            read = partial(self._read, member)
            yield Item(unique(identifier), read, label=label, split=split, size=member.file_size)

    def _read_sidecar(self, member: ZipInfo) -> bytes:
        """Return the content of a sidecar; raise a SourceError if it is encrypted or damaged."""
        try:
            return self._read(member)
        except DecodeError as error:
            raise SourceError(f"{error}. It may state the label of an item; pack the archive again.") from error

    def _read(self, member: ZipInfo) -> bytes:
        """Return the content of a member; raise a DecodeError if it is encrypted, damaged or too large."""
        name = f"member {member.filename} of archive {self.path}"
        if member.flag_bits & ENCRYPTED_FLAG:
            raise DecodeError(f"{name} is encrypted; expected one without a password")
        try:
            with self._lock:
                return read_member(self._archive, member)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, *COMPRESSION_ERRORS) as error:
            is_of_the_disk = isinstance(error, OSError) and error.errno is not None
            if is_of_the_disk:
                raise
            raise DecodeError(f"{name} is damaged: {reason(error)}") from error


def open_zip(path: Path) -> ZipFile:
    """Open an archive; raise a SourceError if it is none, damaged, or may not be read."""
    try:
        check_regular(path)
        return ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise SourceError(
            f"archive {path} cannot be read: {reason(error)}. Expected a whole .zip that may be read; pack it "
            "again, or unpack what is left of it and give the folder."
        ) from error


def normalize_name(member: ZipInfo) -> str:
    """Return the name of a member; some programs of Windows write backslashes between folders."""
    if member.create_system == WINDOWS:
        return member.filename.replace("\\", "/")
    return member.filename


def is_file(member: ZipInfo) -> bool:
    """Return whether a member is a file outside the folders that systems make; one without a name is none."""
    if not member.filename:
        return False
    return not member.is_dir() and not lies_in_system_folder(member.filename)


def is_wanted(member: ZipInfo, kind: str) -> bool:
    """Return whether a member is an item inside the archive's root."""
    return stays_inside(member.filename) and ITEM_KINDS[kind].matches(member.filename)
