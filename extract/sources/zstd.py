"""Files that are compressed by Zstandard, as streams.

The decompressor is that of Python 3.14, or else that of the package zstandard.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Any

from ...errors import SourceError

MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes([digit]) + b"\x2a\x4d\x18" for digit in range(0x50, 0x60)))
"""First bytes of a frame, and of one that is skipped."""
MAX_WINDOW_BYTES = 2**31
"""Largest distance of a repetition, which ``zstd --long=31`` uses."""
CHUNK_BYTES = 4096
"""Bytes that are decompressed at a time: four of them may stand for 128 KiB."""


class ZstdStream(io.RawIOBase):
    """The decompressed content of a file of one frame or several.

    Raise an EOFError where the file ends within a frame. Raise a SourceError if no decompressor is installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frame: Any = make_decompressor(path)
        self._compressed = b""
        self._content = memoryview(b"")
        self._stream: IO[bytes] = open(path, "rb")  # noqa: SIM115 - closed with this object

    def readable(self) -> bool:
        """Return that the stream can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the start of a buffer with the next bytes, and return how many; 0 at the end of the file."""
        while not self._content:
            if not self._compressed:
                self._compressed = self._stream.read(CHUNK_BYTES)
            if not self._compressed:
                break
            self._decompress()
        if not self._content and self._frame is not None:
            raise EOFError("the file ends within compressed data")
        size = min(len(buffer), len(self._content))
        buffer[:size] = self._content[:size]
        self._content = self._content[size:]
        return size

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        super().close()

    def _decompress(self) -> None:
        """Decompress the bytes that were read, up to the end of a frame."""
        if self._frame is None:
            self._frame = make_decompressor(self._path)
        self._content = memoryview(self._frame.decompress(self._compressed))
        self._compressed = b""
        if self._frame.eof:
            self._compressed = self._frame.unused_data
            self._frame = None


def is_zstd(path: Path) -> bool:
    """Return whether a file begins as those of Zstandard do."""
    with open(path, "rb") as stream:
        return stream.read(4) in MAGICS


def make_decompressor(path: Path) -> Any:
    """Return a decompressor of one frame; raise a SourceError that names the file if no package has one."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        pass
    else:
        window = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_BYTES.bit_length() - 1}
        return zstd.ZstdDecompressor(options=window)
    try:
        import zstandard
    except ImportError as error:
        raise SourceError(
            f"archive {path} is compressed by Zstandard, which needs the package zstandard, which is not installed: "
            "pip install zstandard, or pack the archive as .tar.gz"
        ) from error
    return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
