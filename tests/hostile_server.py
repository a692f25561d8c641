"""A web server on this machine that behaves as badly as a test asks for."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[["Handler"], None]
"""What the server does when a path is asked for."""
BLOCK = bytes(2**16)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HostileServer

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        answer = self.server.answers.get(self.path.partition("?")[0], refuse(404))
        with suppress(OSError):
            answer(self)

    def begin(self, status: int = 200, **headers: object) -> None:
        """Send the status and headers; underscores of their names are hyphens."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send_chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))


class HostileServer(http.server.ThreadingHTTPServer):
    """Answers by path, and what was asked for."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.stopping = threading.Event()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def asked(self, path: str) -> list[dict[str, str]]:
        """Return the headers of the requests for a path."""
        return [headers for asked, headers in self.requests if asked.partition("?")[0] == path]

    def handle_error(self, *args: object) -> None:
        pass


@contextmanager
def start_hostile_server() -> Iterator[HostileServer]:
    """Run a server on a free port of the loopback interface."""
    server = HostileServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.stopping.set()
    server.shutdown()
    server.server_close()


def give(content: bytes, **headers: object) -> Answer:
    """Answer as an honest server does."""

    def answer(handler: Handler) -> None:
        handler.begin(Content_Length=len(content), **headers)
        handler.wfile.write(content)

    return answer


def refuse(status: int) -> Answer:
    """Answer with an error."""
    return lambda handler: handler.begin(status, Content_Length=0)


def redirect(url: str) -> Answer:
    """Answer that a file is elsewhere."""
    return lambda handler: handler.begin(302, Content_Length=0, Location=url)


def fall_silent(content: bytes, sent: int) -> Answer:
    """Send a part of a body, then nothing more while the connection stays open."""

    def answer(handler: Handler) -> None:
        handler.begin(Content_Length=len(content))
        handler.wfile.write(content[:sent])
        handler.server.stopping.wait()

    return answer


def drip(content: bytes, seconds: float) -> Answer:
    """Send a body byte by byte."""

    def answer(handler: Handler) -> None:
        handler.begin(Content_Length=len(content))
        for place in range(len(content)):
            handler.wfile.write(content[place : place + 1])
            handler.server.stopping.wait(seconds)

    return answer


def drip_forever(seconds: float, **headers: object) -> Answer:
    """Send a body byte by byte, without an end."""

    def answer(handler: Handler) -> None:
        handler.begin(Transfer_Encoding="chunked", **headers)
        while not handler.server.stopping.wait(seconds):
            handler.send_chunk(b" ")

    return answer


def drip_headers(seconds: float) -> Answer:
    """Send headers one by one, without an end."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not handler.server.stopping.wait(seconds):
            handler.wfile.write(b"A: 1\r\n")

    return answer


def send_forever(block: bytes = BLOCK, **headers: object) -> Answer:
    """Send a block, of zeros by default, in chunks without an end."""

    def answer(handler: Handler) -> None:
        handler.begin(Transfer_Encoding="chunked", **headers)
        while not handler.server.stopping.is_set():
            handler.send_chunk(block)

    return answer


def announce(size: int, content: bytes = b"") -> Answer:
    """Announce a size, send less and close the connection."""

    def answer(handler: Handler) -> None:
        handler.begin(Content_Length=size)
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


def send_gzip_bomb(size: int, **headers: object) -> Answer:
    """Send a body of zeros that its encoding makes a thousand times smaller."""
    packed = gzip.compress(bytes(size), 9)
    return give(packed, Content_Encoding="gzip", **headers)


def cut(content: bytes, pieces: int, *, ranges: bool = True, tag: str = '"1"') -> Answer:
    """Close the connection after each of several pieces; resume by range, or begin anew and never end."""
    length = -(-len(content) // pieces)

    def answer(handler: Handler) -> None:
        start = 0
        asked = handler.headers.get("Range")
        if ranges and asked and handler.headers.get("If-Range") == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        headers: dict[str, object] = {"Content_Length": len(content) - start, "ETag": tag}
        if ranges:
            headers["Accept_Ranges"] = "bytes"
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.begin(206 if start else 200, **headers)
        handler.wfile.write(content[start : start + length])
        handler.close_connection = True

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Answer each request in its own way; the last way repeats."""
    left = list(answers)
    return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)


def hang_up(handler: Handler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


def busy(status: int, retry_after: object = None) -> Answer:
    """Answer that the server is busy."""
    headers = {} if retry_after is None else {"Retry_After": retry_after}
    return lambda handler: handler.begin(status, Content_Length=0, **headers)
