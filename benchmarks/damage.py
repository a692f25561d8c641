"""Damaged or hostile images and archives, and the ways to damage any file; reproducible by their seed."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 28)
SHARE_OF_BOMBS = 0.02
BOMB_BYTES = (2**20, 2**25, 2**27)
DIRECTORY_BYTES = 400
"""About the size of a zip's directory."""
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
BAIT = "bait.png"
"""An image beside the folder, which hostile names and links lead to."""
NAMES = (f"../{BAIT}", f"../../{BAIT}", f"a/../../{BAIT}", "/etc/passwd.png", f"C:\\{BAIT}", "", ".", "..", "a.png",
         "a//b.png", "caf\udce9.png", "a\nb.png", "\u202e.png", "d/" * 1500 + "x.png", "n" * 3000 + ".png")  # fmt: skip
TYPES = b"0125346789SxgXLKAV\0z"
SIZES = (b"\xff" * 12, b"\xff" * 10 + b"\xfe\0", b"\x80" + b"\x7f" * 11, b"\x80\0\0\0\0\0\0\0\xff\xff\xff\xff",
         b"77777777777\0", b"00000000000\0", b"zzzzzzzzzzz\0", b"            ")  # fmt: skip
RECORDS = (b"size=-512", b"size=99999999999999999999", b"path=../bait.png", b"path=a\0b.png", b"path=\xff.png",
           b"hdrcharset=BINARY", b"GNU.sparse.map=0,10,5,10", b"GNU.sparse.size=99999999999", b"GNU.sparse.major=1",
           b"GNU.sparse.minor=0", b"GNU.sparse.map=0,-1,-5,7", b"GNU.sparse.name=s.png", b"mtime=nan")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Files by their names below a folder, some of them damaged."""

    number: int
    files: dict[str, bytes]


def cases(make: Callable[[random.Random], dict[str, bytes]], numbers: Iterable[int], seed: int) -> Iterator[Case]:
    """Make damaged files; the same ones for a seed and a number, however many."""
    for number in numbers:
        yield Case(number, make(random.Random(f"{seed} {number}")))


def make_image(chance: random.Random) -> dict[str, bytes]:
    """Return a damaged image."""
    originals = images()
    name = chance.choice(list(originals))
    return {name: damaged_image(chance, originals[name], list(originals.values()))}


def make_archive(chance: random.Random) -> dict[str, bytes]:
    """Return a tar or zip with hostile members, or a damaged one, or one that unpacks to much more than it has."""
    kind = chance.choice((".tar", ".tar", ".tar.gz", ".tar.gz", ".zip"))
    if chance.random() < SHARE_OF_BOMBS:
        return {f"case{kind}": bomb(kind, chance.choice(BOMB_BYTES))}
    if kind == ".zip":
        return {"case.zip": zip_archive(chance, images())}
    return {f"case{kind}": archive(chance, images(), kind == ".tar.gz")}


@cache
def bomb(kind: str, size: int) -> bytes:
    """Return an archive whose only member is zeros; a tar.gz consists of zeros alone."""
    if kind == ".tar.gz":
        return gzip.compress(bytes(size), mtime=0)
    if kind == ".tar":
        return blocks("a/zeros.png", bytes(size)) + bytes(1024)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/zeros.png", bytes(size))
    return stream.getvalue()


def zip_archive(chance: random.Random, originals: dict[str, bytes]) -> bytes:
    """Return a zip that has hostile names, or is damaged, or both."""
    hostile = chance.random() < 0.6
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for _ in range(chance.randint(1, 6)):
            name = chance.choice(list(originals))
            shown = chance.choice((name, *NAMES)) if hostile else f"label{chance.randrange(3)}/{name}"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # names that occur twice
                member = zipfile.ZipInfo(shown.encode("utf-8", "replace").decode())
                packed.writestr(member, originals[name], chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    content = stream.getvalue()
    if hostile and chance.random() < 0.5:
        return content
    place = chance.choice((0, max(0, len(content) - DIRECTORY_BYTES)))  # sizes are at the end as well
    return content[:place] + damaged(chance, content[place:])


@cache
def images() -> dict[str, bytes]:
    """Encode a small picture in every way that Pillow reads and people use."""
    rows, columns = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    pixels = np.stack([rows * 9, columns * 6, (rows * columns) % 256], axis=2).astype(np.uint8)
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    deep = Image.fromarray(pixels[:, :, 2].astype(np.uint16) * 257)
    clear = Image.fromarray(np.dstack([pixels, pixels[:, :, 0]]))
    palette, grey, bits = picture.quantize(16), picture.convert("L"), picture.convert("1")
    return {
        "plain.jpg": encoded(picture, "JPEG"),
        "exif.jpg": encoded(picture, "JPEG", exif=exif),
        "progressive.jpg": encoded(picture, "JPEG", progressive=True),
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "grey.jpg": encoded(grey, "JPEG"),
        "plain.png": encoded(picture, "PNG"),
        "exif.png": encoded(picture, "PNG", exif=exif),
        "deep.png": encoded(deep, "PNG"),
        "palette.png": encoded(palette, "PNG", transparency=b"\0\x80\xff"),
        "clear.png": encoded(clear, "PNG"),
        "bits.png": encoded(bits, "PNG"),
        "moving.png": encoded(picture, "PNG", save_all=True, append_images=[picture.rotate(90)]),
        "plain.gif": encoded(palette, "GIF"),
        "moving.gif": encoded(picture, "GIF", save_all=True, append_images=[picture.rotate(90)]),
        "plain.webp": encoded(picture, "WEBP"),
        "lossless.webp": encoded(clear, "WEBP", lossless=True, exif=exif.tobytes()),
        "plain.bmp": encoded(picture, "BMP"),
        "palette.bmp": encoded(palette, "BMP"),
        "plain.tif": encoded(picture, "TIFF"),
        "packed.tif": encoded(picture, "TIFF", compression="tiff_lzw", exif=exif),
        "jpeg.tif": encoded(picture, "TIFF", compression="jpeg"),
        "fax.tif": encoded(bits, "TIFF", compression="group4"),
        "deep.tif": encoded(deep, "TIFF"),
        "plain.ppm": encoded(picture, "PPM"),
        "grey.pgm": encoded(grey, "PPM"),
        "plain.avif": encoded(picture, "AVIF"),
    }


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def damaged_image(chance: random.Random, content: bytes, others: list[bytes]) -> bytes:
    if chance.random() < 0.1:  # the start of one, the rest of another
        other = chance.choice(others)
        return content[: chance.randrange(len(content))] + other[chance.randrange(len(other)) :]
    content = damaged(chance, content)
    return with_checksums(content) if content.startswith(b"\x89PNG") and chance.random() < 0.5 else content


def damaged(chance: random.Random, content: bytes) -> bytes:
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        content = chance.choice(DAMAGES)(chance, content)
    return content


def flipped(chance: random.Random, content: bytes) -> bytes:
    found = bytearray(content or b"\0")
    for _ in range(chance.randint(1, 16)):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def overwritten(chance: random.Random, content: bytes) -> bytes:
    at, length = chance.randrange(len(content) + 1), chance.randint(1, 64)
    return content[:at] + chance.choice((chance.randbytes(length), bytes(length))) + content[at + length :]


def truncated(chance: random.Random, content: bytes) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def inserted(chance: random.Random, content: bytes) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.randbytes(chance.randint(1, 64)) + content[at:]


def repeated(chance: random.Random, content: bytes) -> bytes:
    first, last = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    return content[:last] + content[first:]


def shortened(chance: random.Random, content: bytes) -> bytes:
    first, last = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    return content[:first] + content[last:]


def numbered(chance: random.Random, content: bytes) -> bytes:
    """Overwrite a field near the start, where sizes and counts are, with a number at the edge of a type."""
    at, code = chance.randrange(min(len(content), 200) + 1), chance.choice(("<H", ">H", "<I", ">I"))
    field = struct.pack(code, chance.choice(NUMBERS) & (2 ** (8 * struct.calcsize(code)) - 1))
    return content[:at] + field + content[at + len(field) :]


DAMAGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    flipped, overwritten, truncated, inserted, repeated, shortened, numbered, numbered,
)  # fmt: skip


def with_checksums(content: bytes) -> bytes:
    """Make the checksums of a PNG's chunks right again, so that what is in them is looked at."""
    found, at = bytearray(content), 8
    while at + 12 <= len(found):
        end = at + 8 + int.from_bytes(found[at : at + 4], "big")
        found[end : end + 4] = struct.pack(">I", zlib.crc32(found[at + 4 : end]))[: max(0, len(found) - end)]
        at = end + 4
    return bytes(found)


def archive(chance: random.Random, originals: dict[str, bytes], compressed: bool) -> bytes:
    """Return an archive that has hostile members, or is damaged, or both."""
    hostile = chance.random() < 0.6
    members = [member(chance, originals, hostile) for _ in range(chance.randint(1, 6))]
    content = b"".join(members) + bytes(1024)
    if not hostile or chance.random() < 0.3:
        content = chance.choice((damaged, damaged_header))(chance, content)
    if not compressed:
        return content
    content = gzip.compress(content, mtime=0)
    return damaged(chance, content) if chance.random() < 0.3 else content


def member(chance: random.Random, originals: dict[str, bytes], hostile: bool) -> bytes:
    """Return header and content of a member, which may be what no archive should hold."""
    name = chance.choice(list(originals))
    content = originals[name]
    if not hostile:
        return blocks(f"label{chance.randrange(3)}/{name}", content)
    name, kind = chance.choice((name, *NAMES)), bytes([chance.choice(TYPES)]) if chance.random() < 0.6 else b"0"
    if kind in (b"x", b"g", b"X"):
        content = records(chance)
    elif kind in (b"L", b"K"):
        content = chance.choice(NAMES).encode("utf-8", "surrogateescape") + b"\0"
    found = blocks(name, content, kind, chance.choice((f"../{BAIT}", "/etc/passwd", "a.png", name))[:100])
    return damaged_header(chance, found) if chance.random() < 0.3 else found


def blocks(name: str, content: bytes, kind: bytes = b"0", target: str = "") -> bytes:
    header = tarfile.TarInfo(name)
    header.size, header.linkname = len(content), target
    start = bytearray(header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
    start[-512 + 156] = kind[0]
    start[-512:] = sealed(start[-512:])
    return bytes(start) + content + bytes(-len(content) % 512)


def records(chance: random.Random) -> bytes:
    """Return the records of a pax header, some of which give a wrong length."""
    found = b""
    for record in chance.sample(RECORDS, chance.randint(1, 4)):
        length = len(record) + 4 + (len(record) > 95) + chance.choice((0, 0, 0, 0, -3, 5, 10**6))
        found += f"{max(length, 0)} ".encode() + record + b"\n"
    return found


def damaged_header(chance: random.Random, content: bytes) -> bytes:
    """Change the header of some member, and make its checksum right again."""
    at = 512 * chance.randrange(max(1, len(content) // 512))
    header = bytearray(content[at : at + 512].ljust(512, b"\0"))
    change = chance.randrange(4)
    if change == 0:
        header[124:136] = chance.choice(SIZES)
    elif change == 1:
        header[156] = chance.choice(TYPES)
    elif change == 2:
        header[chance.randrange(512)] = chance.randrange(256)
    else:  # the pieces of a sparse member
        header[156], header[482] = ord("S"), chance.randrange(2)
        for place in range(386, 482, 12):
            header[place : place + 12] = chance.choice((b"%011o\0" % chance.randrange(4000), *SIZES))
        header[483:495] = chance.choice((b"%011o\0" % chance.randrange(4000), *SIZES))
    return content[:at] + sealed(header) + content[at + 512 :]


def sealed(header: bytearray) -> bytes:
    """Return a header with its checksum."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)
