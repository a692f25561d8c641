"""Content of a member of a zip, which is never unpacked beyond the size that it states."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import struct
import zlib
from functools import partial
from zipfile import ZIP_BZIP2, ZIP_LZMA, BadZipFile, ZipFile, ZipInfo

from .file import check_size

PIECE_BYTES = 2**20
LOCAL_HEADER = struct.Struct("<26xHH")
"""Fixed part of the header before a member: it ends in the lengths of name and extra field."""
LZMA_HEADER = struct.Struct("<2xH")
"""Start of a member in LZMA: it ends in the length of the properties that follow."""
UNKNOWN_LENGTH = b"\xff" * 8
"""What a file in LZMA states after the properties, and a member of a zip does not."""
MAX_DICTIONARY_BYTES = 2**30


def read_member(archive: ZipFile, member: ZipInfo) -> bytes:
    """Return the content of a member.

    Raise a BadZipFile or an error of the decompressor if it is damaged, a DecodeError if it is larger than any item.
    """
    check_size(member.file_size)
    if member.compress_type in (ZIP_BZIP2, ZIP_LZMA):
        content = unpack(member, read_packed(archive, member))
    else:
        content = read_in_pieces(archive, member)
    if len(content) != member.file_size:
        raise BadZipFile(f"it has other than the {member.file_size:,} bytes that it states")
    return content


def read_in_pieces(archive: ZipFile, member: ZipInfo) -> bytes:
    """Return the content as zipfile unpacks it, which takes no more memory than a piece beyond the stated size."""
    content = io.BytesIO()
    with archive.open(member) as stream:
        for piece in iter(partial(stream.read, PIECE_BYTES), b""):
            content.write(piece)
    return content.getvalue()


def read_packed(archive: ZipFile, member: ZipInfo) -> bytes:
    """Return the packed content of a member."""
    check_size(member.compress_size)
    with archive.open(member):  # checks the header
        pass
    assert archive.filename is not None
    with open(archive.filename, "rb") as stream:
        stream.seek(member.header_offset)
        name_length, extra_length = LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size))
        stream.seek(name_length + extra_length, os.SEEK_CUR)
        return stream.read(member.compress_size)


def unpack(member: ZipInfo, packed: bytes) -> bytes:
    """Return the content of a member in bzip2 or LZMA, up to one byte beyond its size.

    A kilobyte of bzip2 may stand for a gigabyte of zeros, which zipfile would unpack at once.
    """
    decompressor: bz2.BZ2Decompressor | lzma.LZMADecompressor
    if member.compress_type == ZIP_BZIP2:
        decompressor = bz2.BZ2Decompressor()
    else:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_DICTIONARY_BYTES)
        packed = restore_lzma_header(packed)
    content = decompressor.decompress(packed, max_length=member.file_size + 1)
    if len(content) <= member.file_size and zlib.crc32(content) != member.CRC:
        raise BadZipFile("its checksum (CRC-32) is that of another content")
    return content


def restore_lzma_header(packed: bytes) -> bytes:
    """Return a member in LZMA as a file of its own."""
    if len(packed) < LZMA_HEADER.size:
        raise BadZipFile("it ends within its header")
    (n_properties,) = LZMA_HEADER.unpack_from(packed)
    start = LZMA_HEADER.size + n_properties
    return packed[LZMA_HEADER.size : start] + UNKNOWN_LENGTH + packed[start:]
