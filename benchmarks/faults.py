"""Make the writes of a process below a folder fail from a given one on, as on a full or broken disk.

The kernel notifies this process of every system call that changes files before it is executed (seccomp's user
notification, Linux 5.5 or newer), no matter whether Python, numpy or the C++ code of pyarrow makes it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import re
import select
import struct
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path

NUMBERS = {
    "x86_64": {"write": 1, "open": 2, "pwrite64": 18, "writev": 20, "sendfile": 40, "fsync": 74, "fdatasync": 75,
               "ftruncate": 77, "rename": 82, "mkdir": 83, "creat": 85, "link": 86, "openat": 257, "mkdirat": 258,
               "renameat": 264, "linkat": 265, "fallocate": 285, "renameat2": 316, "seccomp": 317},
    "aarch64": {"mkdirat": 34, "linkat": 37, "renameat": 38, "ftruncate": 46, "fallocate": 47, "openat": 56,
                "write": 64, "writev": 66, "pwrite64": 68, "sendfile": 71, "fsync": 82, "fdatasync": 83,
                "renameat2": 276, "seccomp": 277},
}  # fmt: skip
PATHS = {"open": 0, "creat": 0, "mkdir": 0, "rename": 0, "link": 0, "openat": 1, "mkdirat": 1, "renameat": 1,
         "renameat2": 1, "linkat": 1}  # fmt: skip
"""Which argument of a call is a path; those of the others begin with a descriptor."""
FLAGS = {"open": 1, "openat": 2}
RANDOM = re.compile("[0-9a-f]{32}|[0-9]+")
"""In names of files, what is not the same in every run."""
PAGE = 4096
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
NOTIFY, ALLOW = 0x7FC00000, 0x7FFF0000
NO_NEW_PRIVILEGES, SET_FILTER, NEW_LISTENER = 38, 1, 8
RECEIVE, SEND, CONTINUE = 0xC0502100, 0xC0182101, 1
NOTIFICATION, RESPONSE = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")


def can_fail() -> bool:
    """Tell whether faults can be had on this machine."""
    return sys.platform == "linux" and platform.machine() in NUMBERS


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Parameters
    ----------
    first : int
        The first write that fails, from 1.
    error : int
        A number of :mod:`errno`.
    lasts : bool
        Whether all later ones fail, too.
    """

    first: int
    error: int
    lasts: bool

    def __str__(self) -> str:
        return f"{errno.errorcode[self.error]} {'from' if self.lasts else 'at'} write {self.first}"


class Disk:
    """The disk that another process writes to.

    Parameters
    ----------
    folder : Path
        Writes below it are counted, and may fail.
    fault : Fault or None

    Attributes
    ----------
    writes : list of str
        Each call, and on which file, without what is random or counts in its name.
    failed : list of str
        Those that failed.
    """

    def __init__(self, folder: Path, fault: Fault | None = None) -> None:
        self.folder, self.fault = str(folder), fault
        self.writes: list[str] = []
        self.failed: list[str] = []

    def serve(self, connection: Connection) -> None:
        """Let through, or not, what the process that called :func:`surrender` wants to write, until it ends."""
        listener = recv_handle(connection)
        waiting = select.poll()
        waiting.register(listener, select.POLLIN)
        try:
            while not waiting.poll()[0][1] & select.POLLHUP:
                self._answer(listener)
        finally:
            os.close(listener)

    def _answer(self, listener: int) -> None:
        notification = bytearray(NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, RECEIVE, notification)
            cookie, pid, _, number, _, _, *arguments = NOTIFICATION.unpack(notification)
            error = self._error(pid, _name(number), arguments)
            fcntl.ioctl(listener, SEND, RESPONSE.pack(cookie, 0, -error, 0 if error else CONTINUE))
        except (FileNotFoundError, ProcessLookupError):
            pass  # the process has ended meanwhile

    def _error(self, pid: int, name: str, arguments: list[int]) -> int:
        """Return the error of a call, 0 for none."""
        if name in FLAGS and not arguments[FLAGS[name]] & os.O_CREAT:
            return 0
        path = _text(pid, arguments[PATHS[name]]) if name in PATHS else _opened(pid, arguments[0])
        if not path.startswith(self.folder) or (name == "mkdir" and path == self.folder):  # which is there already
            return 0
        self.writes.append(f"{name} {RANDOM.sub('#', path.removeprefix(self.folder))}")
        past = len(self.writes) - self.fault.first if self.fault else -1
        if self.fault is None or past < 0 or (past > 0 and not self.fault.lasts):
            return 0
        self.failed.append(self.writes[-1])
        return self.fault.error


def _name(number: int) -> str:
    return next(name for name, known in NUMBERS[platform.machine()].items() if known == number)


def _opened(pid: int, descriptor: int) -> str:
    return os.readlink(f"/proc/{pid}/fd/{descriptor}")


def _text(pid: int, address: int) -> str:
    """Read a text that ends with a zero from a process's memory."""
    found = b""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        while b"\0" not in found:
            memory.seek(address + len(found))
            found += memory.read(PAGE - (address + len(found)) % PAGE)
    return os.fsdecode(found.partition(b"\0")[0])


def surrender(connection: Connection) -> None:
    """Let the process at the other end decide what becomes of the writes of this one, which cannot be taken back."""
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = dict(NUMBERS[platform.machine()])
    seccomp = numbers.pop("seccomp")
    jumps = [(JUMP_IF_EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers.values())]
    filters = [(LOAD, 0, 0, 0), *jumps, (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, NOTIFY)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in filters))
    program = struct.pack("@HP", len(filters), ctypes.addressof(code))
    listener = -1
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0:
        listener = libc.syscall(seccomp, SET_FILTER, NEW_LISTENER, program)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "this system does not let a process watch the calls of another")
    send_handle(connection, listener, os.getppid())
    os.close(listener)
