"""Bad input of every kind: one bad item fails alone and says why, and a bad source says what is wrong with it."""

from __future__ import annotations

import builtins
import errno
import gzip
import io
import json
import os
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageFile
from pyarrow import parquet
from topwork.errors import DecodeError, SourceError
from topwork.extract.engine.batching import BatchSizes
from topwork.extract.engine.engine import compute_features
from topwork.extract.preprocess.by_kind import preprocessor_for
from topwork.extract.preprocess.preprocessor import Feed
from topwork.extract.runtime.session import Session
from topwork.extract.sources.file import MAX_ITEM_BYTES
from topwork.extract.sources.folder import leads_to_folder
from topwork.extract.sources.item import Item
from topwork.extract.sources.opening import open_source
from topwork.extract.sources.table import Table
from topwork.models.image_spec import ImageSpec
from topwork.models.input_spec import InputSpec
from topwork.models.tensor_spec import TensorSpec
from topwork.models.text_spec import TextSpec

IMAGES = ImageSpec(size=(32, 32), resize=32)
TENSORS = TensorSpec((2, 3))
ROWS = np.arange(18, dtype=np.float32).reshape(3, 2, 3)


def picture(seed: int = 0, kind: str = "PNG", **options: Any) -> bytes:
    pixels, stream = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def outcomes(source: Any, spec: InputSpec = IMAGES) -> dict[str, str]:
    """Read and prepare all items as the engine does, and return for each id "ok" or the reason of its failure."""
    preprocessor, found = preprocessor_for(spec), {}
    for item in open_source(source, kind=spec.kind):
        assert item.id not in found
        assert item.id.encode("utf-8")  # a store can hold it
        try:
            preprocessor.prepare(item.read())
            found[item.id] = "ok"
        except (OSError, DecodeError) as error:
            found[item.id] = str(error)
    return found


def contents(source: Any, kind: str = "image") -> dict[str, Any]:
    return {item.id: item.read() for item in open_source(source, kind=kind)}


# Files


def png(width: int, height: int) -> bytes:
    """Return a few kilobytes that promise black pixels."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    rows = zlib.compress(bytes(1_000_000), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    for kind, content in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")):
        parts.append(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
    return b"".join(parts)


BAD_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty.png": (Path.touch, "the file is empty"),
    "truncated.jpg": (lambda path: path.write_bytes(picture(kind="JPEG")[:-100]), "image file is truncated"),
    "text.jpg": (lambda path: path.write_text("no image at all\n" * 50), "not an image of a known format"),
    "program.jpg": (
        lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"),
        "EPS is a program that draws; expected pixels",
    ),
    "loop.png": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "sparse.png": (
        lambda path: (path.touch(), os.truncate(path, MAX_ITEM_BYTES + 1)),
        "2,147,483,649 bytes; expected at most 2,147,483,648",
    ),
    "pipe.png": (lambda path: os.mkfifo(path), "not a regular file but a pipe, a socket or a device"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_fails_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "z.png").write_bytes(picture(2))
    write, reason = BAD_FILES[name]
    write(tmp_path / name)
    found = outcomes(tmp_path)
    assert list(found) == ["a.png", name, "z.png"]
    assert reason in found.pop(name)
    assert set(found.values()) == {"ok"}


@pytest.mark.parametrize(
    ("side", "reason"),
    [
        (40_000, "a decompression bomb, of far more pixels than max_pixels=89,478,485"),
        (10_000, "10000 x 10000 pixels are more than max_pixels=89,478,485"),
    ],
)
def test_bomb_fails_alone_before_a_pixel_is_decoded(
    side: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb.png").write_bytes(png(side, side))
    assert (tmp_path / "bomb.png").stat().st_size < 4096
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
    assert outcomes(tmp_path) == {"bomb.png": reason}


def test_unreadable_file_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "locked.png"):
        (tmp_path / name).write_bytes(picture())
    opened = builtins.open

    def guarded(file: Any, *arguments: Any, **options: Any) -> Any:  # permissions do not stop the superuser
        if str(file).endswith("locked.png"):
            raise PermissionError(errno.EACCES, "Permission denied", file)
        return opened(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", guarded)
    assert outcomes(tmp_path) == {
        "a.png": "ok",
        "locked.png": f"[Errno {errno.EACCES}] Permission denied: '{tmp_path / 'locked.png'}'",
    }


def test_folder_in_place_of_a_file_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "folder.png").mkdir()
    paths = [str(tmp_path / name) for name in ("folder.png", "a.png")]
    assert list(outcomes(paths).values()) == ["not a regular file but a folder", "ok"]


def test_damaged_metadata_neither_warn_nor_stop_an_image() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description of some length"
    content = picture(kind="JPEG", exif=exif)
    at = content.index(b"Exif\0\0") + 14
    damaged = content[:at] + b"\xff\xff" + content[at + 2 :]  # the number of its entries
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert preprocessor_for(IMAGES).prepare(damaged).array.shape == (32, 32, 3)


@pytest.mark.parametrize("content", ["text", [1, 2], None, object()], ids=lambda value: type(value).__name__)
def test_what_is_no_image_is_named_by_its_type(content: Any) -> None:
    with pytest.raises(DecodeError, match=f"a {type(content).__name__}"):
        preprocessor_for(IMAGES).prepare(content)


def test_single_number_is_no_image() -> None:
    for number in (np.uint8(0), np.float32(3)):
        with pytest.raises(DecodeError, match=rf"array of {number.dtype} and shape \(\)"):
            preprocessor_for(IMAGES).prepare(number)


# Folders


def test_folder_of_empty_folders_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "cat" / "young").mkdir(parents=True)
    (tmp_path / "dog").mkdir()
    with pytest.raises(SourceError, match=r"holds no image items \(0 other files\)"):
        open_source(tmp_path)


def test_links_that_lead_to_one_another_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    for name, target in (("self", "self"), ("one", "two"), ("two", "three"), ("three", "one")):
        (tmp_path / name).symlink_to(target)
    source = open_source(tmp_path)
    assert [item.id for item in source] == ["a.png"]
    assert source.ignored == 4


def test_unreadable_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(picture())
    (tmp_path / "locked").mkdir()
    listed = os.scandir

    def guarded(path: str) -> Any:
        if path.endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(SourceError, match=r"locked .*Permission denied"):
        open_source(tmp_path)


@pytest.mark.parametrize(("name", "fails"), [("pets", True), ("pets.png", False)])
def test_link_into_an_unreadable_folder_may_hide_items_unless_it_is_one(name: str, fails: bool) -> None:
    class Hidden:
        def __init__(self) -> None:
            self.name, self.path = name, f"/data/{name}"

        def is_dir(self) -> bool:
            raise PermissionError(errno.EACCES, "Permission denied", self.path)

    entry: Any = Hidden()
    if fails:
        with pytest.raises(SourceError, match=r"/data/pets .*Permission denied"):
            leads_to_folder(entry, "image")
    else:
        assert not leads_to_folder(entry, "image")  # it fails when it is read


def test_names_with_ends_of_lines_and_of_any_encoding_are_told_apart(tmp_path: Path) -> None:
    names = [b"a\nb.png", b"caf\xe9.png", b"caf\\xe9.png", b"caf\xe9/x.png", b"caf\\xe9/x.png", b" .png", b"-rf.png"]
    for seed, name in enumerate(names):
        path = os.path.join(os.fsencode(tmp_path), name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as stream:
                stream.write(picture(seed))
        except OSError:
            pytest.skip("the file system takes UTF-8 names only")
    found = contents(tmp_path)
    expected = {" .png": 5, "-rf.png": 6, "a\nb.png": 0, "caf\\xe9.png": 2, "caf\\xe9.png#2": 1,
                "caf\\xe9/x.png": 4, "caf\\xe9/x.png#2": 3}  # fmt: skip
    assert found == {name: picture(seed) for name, seed in expected.items()}
    assert list(contents(tmp_path)) == list(found)


@contextmanager
def nested(root: Path, name: str, levels: int) -> Iterator[None]:
    """Make folders in one another, with an image in the innermost; a path may be longer than a system call takes."""
    here = os.getcwd()
    os.chdir(root)
    for _ in range(levels):
        os.mkdir(name)
        os.chdir(name)
    Path("x.png").write_bytes(picture())
    innermost = os.open(".", os.O_RDONLY)
    os.chdir(here)
    try:
        yield
    finally:
        os.chdir(innermost)
        os.close(innermost)
        os.unlink("x.png")
        for _ in range(levels):
            os.chdir("..")
            os.rmdir(name)
        os.chdir(here)


@pytest.mark.skipif(not hasattr(os, "fchdir"), reason="folders cannot be entered by their number")
@pytest.mark.parametrize(("name", "levels"), [("n" * 200, 15), ("d", 1400)], ids=["long names", "deep"])
def test_paths_of_three_thousand_letters_are_read(name: str, levels: int, tmp_path: Path) -> None:
    with nested(tmp_path, name, levels):
        assert outcomes(tmp_path) == {f"{name}/" * levels + "x.png": "ok"}


@pytest.mark.skipif(not hasattr(os, "fchdir"), reason="folders cannot be entered by their number")
def test_path_that_is_too_long_for_the_system_is_an_error(tmp_path: Path) -> None:
    with nested(tmp_path, "n" * 200, 30), pytest.raises(SourceError, match=r"n{200}"):
        open_source(tmp_path)


def test_time_that_no_store_can_hold_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    year_2400 = 13_569_465_600 * 10**9
    os.utime(tmp_path / "a.png", ns=(0, year_2400))
    if (tmp_path / "a.png").stat().st_mtime_ns != year_2400:
        pytest.skip("the file system knows no such time")
    (item,) = open_source(tmp_path)
    assert (item.size, item.mtime_ns) == (None, None)


# Archives


def header(
    name: str, size: int | bytes, kind: bytes = b"0", sparse: tuple[list[tuple[int, int]], int] | None = None
) -> bytes:
    """Return the block that begins a member, whatever it says, with a checksum that is right."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")[-512:])
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[156:157] = kind
    if sparse:
        pieces, whole = sparse
        fields = b"".join(b"%011o\0%011o\0" % piece for piece in pieces)
        block[386 : 386 + len(fields)], block[483:495] = fields, b"%011o\0" % whole
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def member(name: str, seed: int = 0) -> bytes:
    content = picture(seed)
    return header(name, len(content)) + padded(content)


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    """Return a pax header; a record tells its own length."""
    content = b""
    for record in records:
        length = len(record) + 2
        length += len(str(length + len(str(length))))
        content += b"%d %s\n" % (length, record)
    return header("pax", len(content), kind) + padded(content)


def packed(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


END = bytes(1024)
WHOLE = member("a/1.png", 1) + member("a/2.png", 2) + END
SECOND = len(member("a/1.png", 1))
"""Where the second header begins."""


def with_bytes(content: bytes, at: int, change: bytes) -> bytes:
    return content[:at] + change + content[at + len(change) :]


BAD_ARCHIVES = {
    "header flipped": (with_bytes(WHOLE, SECOND + 3, b"?"), f"bad checksum at byte {SECOND:,}"),
    "header of zeros": (with_bytes(WHOLE, SECOND, bytes(512)), f"invalid header at byte {SECOND + 512:,}"),
    "cut in a header": (WHOLE[: SECOND + 100], f"truncated header at byte {SECOND:,}"),
    "cut in a member": (WHOLE[: SECOND + 700], "unexpected end of data"),
    "something after it": (WHOLE + b"signature" * 100, f"invalid header at byte {len(WHOLE):,}"),
    "negative size": (WHOLE[:-1024] + header("n.png", b"\xff" * 10 + b"\xfe\0"), "a size of -512 bytes"),
    "size of 90 bits": (WHOLE[:-1024] + header("n.png", b"\x80" + b"\x7f" * 11), r"a size of [\d,]{35} bytes"),
    "negative pax size": (WHOLE[:-1024] + pax(b"size=-512") + member("p.png"), "a size of -512 bytes"),
    "huge pax size": (WHOLE[:-1024] + pax(b"size=" + b"9" * 20) + member("p.png"), r"a size of [\d,]{26} bytes"),
    "pax header of digits": (WHOLE[:-1024] + header("x", 2**20, b"x") + b"1" * 2**20, "a size of 1,048,576 bytes"),
    "pax headers without end": (WHOLE[:-1024] + pax(b"a=b") * 2000, "too many headers follow one another"),
    "nothing after a long name": (WHOLE[:-1024] + header("L", 5, b"L") + padded(b"name\0") + END, "end of file header"),
    "sparse map without numbers": (
        WHOLE[:-1024] + pax(b"GNU.sparse.major=1", b"GNU.sparse.minor=0") + member("s.png"),
        "a damaged header",
    ),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_damaged_archive_is_refused_as_a_whole_rather_than_read_in_part(name: str, suffix: str, tmp_path: Path) -> None:
    content, reason = BAD_ARCHIVES[name]
    path = packed(tmp_path / f"a{suffix}", content)
    with pytest.raises(SourceError, match=rf"{path} .*{reason}"):
        open_source(path)


def test_compressed_archive_is_checked_to_its_last_byte(tmp_path: Path) -> None:
    whole = gzip.compress(WHOLE)
    for damaged in (whole[:-4], with_bytes(whole, len(whole) - 8, b"\0\0\0\0"), whole + b"more"):
        (tmp_path / "a.tgz").write_bytes(damaged)
        with pytest.raises(SourceError, match=r"a\.tgz .*(Compressed file ended|CRC check|Not a gzip)"):
            open_source(tmp_path / "a.tgz")
    (tmp_path / "a.tgz").write_bytes(whole + bytes(512))
    assert len(open_source(tmp_path / "a.tgz")) == 2


def test_archive_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.tar", WHOLE)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(tarfile, "open", refuse)
    with pytest.raises(SourceError, match=r"a\.tar .*Permission denied"):
        open_source(path)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_archives_that_were_joined_are_read_to_the_end(suffix: str, tmp_path: Path) -> None:
    path = packed(tmp_path / f"a{suffix}", WHOLE + bytes(9216) + member("b/3.png", 3) + END)
    assert contents(path) == {"a/1.png": picture(1), "a/2.png": picture(2), "b/3.png": picture(3)}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_members_of_one_name_keep_their_contents(suffix: str, tmp_path: Path) -> None:
    names = ["a/1.png", "a/1.png", "./a/1.png", "a//1.png"]
    path = packed(tmp_path / f"a{suffix}", b"".join(map(member, names, range(4))) + END)
    assert contents(path) == {f"a/1.png{again}": picture(seed) for seed, again in enumerate(("", "#2", "#3", "#4"))}


LONG = "d/" * 1500 + "x.png"
NAMES = {
    "pax, long": (pax(b"path=" + LONG.encode()) + member("short.png"), LONG),
    "GNU, long": (header("L", 3006, b"L") + padded(LONG.encode() + b"\0") + member("short.png"), LONG),
    "pax, line end": (pax(b"path=a\nb.png") + member("short.png"), "a\nb.png"),
    "pax, zero byte": (pax(b"path=a\0b.png") + member("short.png"), "a\0b.png"),
    "pax, binary": (pax(b"hdrcharset=BINARY", b"path=caf\xe9.png") + member("short.png"), "caf\\xe9.png"),
    "pax, not UTF-8": (pax(b"path=caf\xe9\xed\xa0\x80.png") + member("short.png"), "caf\\xe9\\xed\\xa0\\x80.png"),
    "latin-1": (member("caf\udce9.png"), "caf\\xe9.png"),
    "of another system": (member("C:\\..\\x.png"), "C:\\..\\x.png"),
}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_member_becomes_an_id(name: str, suffix: str, tmp_path: Path) -> None:
    content, expected = NAMES[name]
    assert contents(packed(tmp_path / f"a{suffix}", content + END)) == {expected: picture()}


def test_names_that_pax_puts_outside_the_root_are_left_out(tmp_path: Path) -> None:
    hostile = [pax(b"path=" + path) + member("good.png") for path in (b"../x.png", b"/x.png", b"a/../../x.png")]
    source = open_source(packed(tmp_path / "a.tar", b"".join(hostile) + member("a/1.png", 1) + END))
    assert {item.id: item.read() for item in source} == {"a/1.png": picture(1)}
    assert source.ignored == 3


def sparse(pieces: list[tuple[int, int]], whole: int, stored: bytes) -> bytes:
    return header("s.png", len(stored), b"S", (pieces, whole)) + padded(stored)


PICTURE = picture(5)
PARTS = PICTURE[:512] + PICTURE[1024:]
SPARSE = {
    "of pieces": (sparse([(0, 512), (1024, len(PICTURE) - 1024)], len(PICTURE), PARTS), None),
    "overlapping": (sparse([(0, 600), (500, 24)], 700, PARTS), "overlap"),
    "leaving it": (sparse([(0, 512), (1024, 512)], 1200, PARTS), "1,536"),
    "more than stored": (sparse([(0, 9000)], 9000, PARTS), "9,000"),
    "a bomb": (sparse([(0, 512)], 2**32, PARTS), "4,294,967,296 .*2,147,483,648"),
    "pax map": (
        pax(b"GNU.sparse.map=0,9,3,9", b"GNU.sparse.size=20") + member("s.png"),
        "overlap",
    ),
    "global size": (
        pax(b"size=5000", kind=b"g") + member("s.png") + pax(b"size=%d" % len(picture()), kind=b"g"),
        "5,000",
    ),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("name", SPARSE)
def test_sparse_member_is_read_as_it_was_or_fails_alone(name: str, suffix: str, tmp_path: Path) -> None:
    content, reason = SPARSE[name]
    path = packed(tmp_path / f"a{suffix}", content + header("z.png", 0) + END)
    items = list(open_source(path))
    assert items[0].id == "s.png"
    if reason is None:
        assert items[0].read() == PICTURE[:512] + bytes(512) + PICTURE[1024:]
    else:
        with pytest.raises(DecodeError, match=reason):
            items[0].read()


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_member_that_is_no_image_fails_alone(suffix: str, tmp_path: Path) -> None:
    members = [member("a.png"), header("b.png", 0), header("c.png", 2000) + padded(picture()[:1000] + bytes(1000))]
    found = outcomes(packed(tmp_path / f"a{suffix}", b"".join([*members, member("d.png", 1), END])))
    assert (found["a.png"], found["b.png"], found["d.png"]) == ("ok", "the file is empty", "ok")
    assert "broken" in found["c.png"]


def test_archive_that_shrinks_while_it_is_read_fails_item_by_item(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", WHOLE)
    items = list(open_source(path))
    os.truncate(path, SECOND + 600)
    assert items[0].read() == picture(1)
    with pytest.raises(OSError, match="shorter"):
        items[1].read()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.npy", "a.npz", "a.csv", "a.jsonl", "a.parquet"])
def test_pipe_in_place_of_a_source_is_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    source = Table(tmp_path / name) if name.endswith(("csv", "jsonl", "parquet")) else tmp_path / name
    with pytest.raises(SourceError, match=rf"{name} .*a pipe"):
        open_source(source)


# Tables


def table(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def of_columns(file: Path, **columns: Any) -> Path:
    parquet.write_table(pa.table(columns), file)
    return file


BAD_TABLES: dict[str, tuple[str, str | bytes, str]] = {
    "short row": (
        "t.csv",
        "text,label\na,x\nb\n",
        r"Row #3: Expected 2 columns, got 1: b\. Expected UTF-8, and in",
    ),
    "long row": ("t.csv", "text,label\na,x\nb,c,d\n", "Row #3: Expected 2 columns, got 3: b,c,d"),
    "another encoding": (
        "t.csv",
        "text,label\nä,x\n".encode("utf-16"),
        r"Expected UTF-8, and in each row as many",
    ),
    "mark alone": ("t.csv", "\ufeff", r"Empty CSV file\. Expected UTF-8"),
    "cut line": (
        "t.jsonl",
        '{"text": "a"}\n\n{"text":\n',
        r"Expecting value in line 3, column 9\. Expected UTF-8, and",
    ),
    "list": ("t.jsonl", '{"text": "a"}\n["b"]\n', r"a list in line 2\. Expected UTF-8, and in each line an object"),
    "brackets": ("t.jsonl", '{"text": ' + "[" * 100_000, "recursion depth exceeded.* in line 1"),
    "digits": ("t.jsonl", '{"text": ' + "1" * 5000 + "}", "Exceeds the limit .* in line 1"),
    "open quote": ("t.csv", 'text,label\n"a,x\n' + "b,y\n" * 500_000, "Expected 2 columns, got 1"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_damaged_table_says_where_and_what_is_expected(name: str, tmp_path: Path) -> None:
    file, content, reason = BAD_TABLES[name]
    with pytest.raises(SourceError, match=rf"{tmp_path / file} .*{reason}"):
        open_source(table(tmp_path / file, content), kind="text")


def test_cell_longer_than_a_block_is_read(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "text,label\na,x\n" + "b" * 3_000_000 + ",y\nc,z\n")
    items = list(open_source(path, kind="text"))
    assert [(item.read()[:2], item.label) for item in items] == [("a", "x"), ("bb", "y"), ("c", "z")]
    assert len(items[1].read()) == 3_000_000


def test_nan_is_no_label_beside_texts_and_beside_numbers(tmp_path: Path) -> None:
    for labels, expected in ((["x", float("nan")], ["x", None]), ([1.0, float("nan")], ["1.0", None])):
        lines = [json.dumps({"text": text, "label": label}) for text, label in zip("ab", labels, strict=True)]
        path = table(tmp_path / "t.jsonl", "\n".join(lines))
        assert "NaN" in path.read_text()
        assert [item.label for item in open_source(path, kind="text")] == expected


def test_paths_that_no_file_can_have_fail_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    paths = ["a.png", "a\0b.png", "\ud83d.png", "x" * 3000, ".", "/dev/zero"]
    found = outcomes(table(tmp_path / "t.jsonl", "\n".join(json.dumps({"path": path}) for path in paths)))
    assert list(found) == ["a.png", "a\0b.png", "\\xed\\xa0\\xbd.png", "x" * 3000, ".", "/dev/zero"]
    reasons = ["ok", "no path of a file: embedded null byte", "No such file", "File name too long",
               "not a regular file but a folder", "not a regular file but a pipe, a socket or a device"]  # fmt: skip
    for reason, expected in zip(found.values(), reasons, strict=True):
        assert expected in reason


def test_path_in_a_list_that_no_file_can_have_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    found = outcomes([tmp_path / "a.png", f"{tmp_path}/a\0b.png"])
    assert list(found.values()) == ["ok", "no path of a file: embedded null byte"]


def test_text_that_is_no_text_fails_alone(text_spec: TextSpec, tmp_path: Path) -> None:
    lines = table(tmp_path / "t.jsonl", '{"text": "cat"}\n{"text": "\\ud83d"}\n{"text": "dog"}\n')
    bytes_ = of_columns(tmp_path / "t.parquet", text=[b"cat", b"caf\xe9", b"dog"], label=[b"x", b"\xff", None])
    for path in (lines, bytes_):
        first, broken, last = outcomes(path, text_spec).values()
        assert (first, last) == ("ok", "ok")
        assert broken == "half of a surrogate pair, or a byte that is not UTF-8: no character"
    assert [item.label for item in open_source(bytes_, kind="text")] == ["x", "\\xff", None]


def test_paths_in_bytes_lead_to_names_of_any_encoding(tmp_path: Path) -> None:
    try:
        (Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")))).write_bytes(picture())
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    path = of_columns(tmp_path / "t.parquet", path=[b"caf\xe9.png", b"\xff.png"], id=[None, b"\xfe"])
    found = outcomes(path)
    assert found["caf\\xe9.png"] == "ok"
    assert "No such file" in found["\\xfe"]


@pytest.mark.parametrize(
    "label",
    [
        pa.array([1, 2**62], pa.timestamp("ns")),
        pa.array([1, 2**62], pa.timestamp("ms")),
        pa.array([1, None], pa.timestamp("s", tz="Nowhere/City")),
        pa.array([3, 4], pa.duration("ns")),
    ],
    ids=["nanoseconds", "distant", "nowhere", "duration"],
)
def test_column_that_python_has_no_type_for_is_named(label: pa.Array, tmp_path: Path) -> None:
    path = of_columns(tmp_path / "t.parquet", text=["a", "b"], label=label)
    with pytest.raises(SourceError, match=r"'label' .*t\.parquet"):
        open_source(path, kind="text")


def test_two_columns_of_one_name_in_parquet_are_named(tmp_path: Path) -> None:
    both = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    parquet.write_table(both, tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"t\.parquet .*'text'"):
        open_source(tmp_path / "t.parquet", kind="text")


# Arrays


def npy(shape: str, kind: str = "'<f4'", data: bytes = b"") -> bytes:
    """Return an ``.npy`` whose header says what it likes."""
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin-1") + data


BAD_ARRAYS = {
    "open bracket": (npy("(2, 3"), "EOF in multi-line statement"),
    "more than 64 bits": (npy("(99999999999999999999999999,)"), "too large"),
    "petabyte": (npy("(1000000000000000,)"), "(mmap length is greater|Unable to allocate)"),
    "rows of nothing": (npy("(10000000000, 0)"), r"rows of shape \(0,\) hold no values"),
    "values of nothing": (npy("(10000000000,)", "'|V0'"), r"rows of shape \(\) hold no values"),
    "long header": (npy("'" + "x" * 2000 + "'"), r"shape is not valid.{1,182}$"),
}


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_array_whose_header_lies_is_refused(name: str, suffix: str, tmp_path: Path) -> None:
    content, reason = BAD_ARRAYS[name]
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("X.npy", content)
    with pytest.raises(SourceError, match=rf"a\{suffix} .*{reason}"):
        open_source(path, kind="tensor")


@pytest.mark.parametrize(("at", "value", "reason"), [(8, 99, "compression method"), (6, 1, "encrypted")])
def test_npz_that_numpy_cannot_unpack_is_refused(at: int, value: int, reason: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=ROWS)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[at] = content[content.index(b"PK\1\2") + at + 2] = value
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(SourceError, match=rf"a\.npz .*{reason}"):
        open_source(tmp_path / "a.npz", kind="tensor")


def test_labels_beside_an_array_may_be_nan_or_bytes_but_are_one_for_each_row(tmp_path: Path) -> None:
    def labels(y: Any) -> list[str | None]:
        np.savez(tmp_path / "a.npz", X=ROWS, y=y)
        return [item.label for item in open_source(tmp_path / "a.npz", kind="tensor")]

    assert labels([1.5, np.nan, 2]) == ["1.5", None, "2.0"]
    assert labels(np.array([b"x", "ü".encode(), b"z"])) == ["x", "ü", "z"]
    for wrong in (np.zeros((3, 2)), np.float64(3)):
        with pytest.raises(SourceError, match=r"a\.npz .*y of shape \(.*\)"):
            labels(wrong)
    with pytest.raises(SourceError, match=r"a\.npz .*Object arrays cannot be loaded"):
        labels(np.array(["a", None, 3], object))


@pytest.mark.parametrize("content", [[[1, 2], [3]], [[1, [2]], [3, 4]]])
def test_ragged_list_is_no_tensor(content: Any) -> None:
    with pytest.raises(DecodeError, match=r"list .*inhomogeneous"):
        preprocessor_for(TENSORS).prepare(content)


# Tokenisers and networks


def tokenizer_json(tokens: list[str]) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(tokenizer.to_str())


@pytest.fixture(scope="module")
def text_spec() -> TextSpec:
    return TextSpec(tokenizer_json(["[UNK]", "cat", "dog"]), max_length=8)


def test_text_that_the_tokeniser_cannot_take_fails_alone() -> None:
    preprocessor = preprocessor_for(TextSpec(tokenizer_json(["cat", "dog"]), max_length=8))  # it has no unknown token
    good, bad, last = preprocessor.prepare_all(["cat dog", "cat horse", "dog"])
    assert isinstance(bad, DecodeError)
    assert str(bad).startswith("the tokeniser cannot take this text: WordLevel error: Missing [UNK] token")
    assert not isinstance(good, DecodeError)
    assert not isinstance(last, DecodeError)
    assert (good.array.tolist(), last.array.tolist()) == ([0, 1], [1])


class Sick(Session):
    """A network whose first value is that of the image's first pixel: NaN for 1, infinite for 2."""

    def run(self, feed: Feed) -> list[Any]:
        first = feed["image"][:, 0, 0, 0]
        features = np.stack([first, first + 1], axis=1).astype(np.float32)
        features[first == 1, 0], features[first == 2, 1] = np.nan, -np.inf
        return [features, np.ones_like(features)]


@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_features_that_are_not_finite_fail_alone(batch_size: int) -> None:
    items = [Item(str(n), lambda n=n: np.full((32, 32, 3), n, np.uint8)) for n in (0, 1, 3, 2, 1, 4)]
    session, sizes = Sick(None, "cpu"), BatchSizes(batch_size)
    found = list(compute_features(items, session, preprocessor_for(IMAGES), sizes=sizes, workers=2))
    reason = "the model's features are not finite"
    assert [(result.item.id, result.reason) for result in found] == [
        ("0", None), ("1", reason), ("3", None), ("2", reason), ("1", reason), ("4", None)
    ]  # fmt: skip
    assert [result.vectors is None for result in found] == [False, True, False, True, True, False]
    assert [float(result.vectors[0][0]) for result in found if result.vectors] == [0, 3, 4]
