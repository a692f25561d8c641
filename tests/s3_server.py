"""An S3 server on this machine, and a proxy before it that fails, answers late, and cuts its answers short."""

from __future__ import annotations

import http.client
import http.server
import itertools
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

LATE_SECONDS = 0.3


@dataclass
class Faults:
    """Which requests go wrong: every n-th of those that are counted, by kind; 0 for none."""

    refused: int = 0
    """Answered with status 500, and not passed on."""
    lost: int = 0
    """Passed on, and answered with status 500 as if they had not been."""
    cut: int = 0
    """The answer ends in the middle of its content."""
    late: int = 0
    """The answer comes late."""
    unconditional: bool = False
    """No request is conditional: files are created whether there are some or not."""
    counts: dict[str, Iterator[int]] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    def hits(self, kind: str) -> bool:
        """Count a request, and return whether it goes wrong in this way."""
        every = getattr(self, kind)
        number = next(self.counts.setdefault(kind, itertools.count(1)))
        if not every or number % every:
            return False
        self.done[kind] = self.done.get(kind, 0) + 1
        return True


class Proxy(http.server.ThreadingHTTPServer):
    """Passes requests on to a port of this machine, unless its faults say otherwise."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = port
        self.faults = Faults()
        self.seen: list[str] = []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *args: object) -> None:
        pass

    def pass_on(self) -> None:
        faults = self.server.faults
        content = self.read_content()
        self.server.seen.append(f"{self.command} {self.path}")
        if faults.hits("refused"):
            self.answer(500, b"")
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        dropped = ("transfer-encoding", "if-none-match" if faults.unconditional else "")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        connection.request(self.command, self.path, content, headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if faults.hits("late"):
            time.sleep(LATE_SECONDS)
        if self.command in ("PUT", "POST") and faults.hits("lost"):
            self.answer(500, b"")
        elif self.command == "GET" and len(body) > 1 and faults.hits("cut"):
            self.begin(response, len(body))
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.begin(response, len(body) if self.command != "HEAD" else None)
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on  # noqa: N815 - names that the server calls

    def read_content(self) -> bytes:
        """Return the content of the request, which may come in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def begin(self, response: http.client.HTTPResponse, length: int | None) -> None:
        """Send the status and the headers of an answer."""
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection") or (
                length is None and name.lower() == "content-length"
            ):
                self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def answer(self, status: int, body: bytes) -> None:
        """Answer without asking the server."""
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def start_s3_server() -> Iterator[Proxy]:
    """Start an S3 server and its proxy, and yield the proxy."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = Proxy(server.get_host_and_port()[1])
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        server.stop()
