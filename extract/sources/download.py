"""Downloads from web servers: in pieces, within limits of silence and size, retried, and resumed where possible."""

from __future__ import annotations

import asyncio
import errno
import functools
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ...errors import TransientError
from .file import check_size
from .retries import DownloadLimits, choose_wait, parse_retry_after

if TYPE_CHECKING:
    from aiohttp import ClientResponse

CheckUrl = Callable[[str], None]
"""A function that raises an error for a URL that may not be opened."""
WEB_PROTOCOLS = ("http", "https")
RETRIED_STATUSES = (429, 500, 502, 503, 504)
PIECE_BYTES = 2**16
MAX_CAUSE_LETTERS = 200
MIN_FREE_BYTES = 2**26
"""Room on a disk that downloads leave to others."""
MIN_PROGRESS_BYTES = 2**20
"""An attempt that came this much further than all before is not counted: a large file is resumed however often."""


def find_web_options(url: str) -> dict[str, Any]:
    """Return options for the file systems of a URL: the limits of web connections, in place of a total of 5 minutes."""
    protocols = [part.partition("://")[0] for part in url.split("::")]
    if not any(protocol in WEB_PROTOCOLS for protocol in protocols):
        return {}
    try:
        from aiohttp import ClientTimeout
    except ImportError:  # fsspec says so
        return {}
    from fsspec.config import conf

    limits = DownloadLimits.from_environment()
    timeout = ClientTimeout(total=None, sock_connect=limits.connect_seconds, sock_read=limits.silence_seconds)
    options = {}
    for protocol in set(protocols) & set(WEB_PROTOCOLS):
        configured = conf.get(protocol, {}).get("client_kwargs", {})
        options[protocol] = {"client_kwargs": {"timeout": timeout, **configured}}
    return options


def is_web(system: Any) -> bool:
    """Return whether a file system is that of web servers."""
    protocol = system.protocol
    names = (protocol,) if isinstance(protocol, str) else protocol
    return "http" in names and hasattr(system, "set_session")


def download_item(system: Any, url: str, check_redirect: CheckUrl | None = None) -> bytes:
    """Return the content of an item; raise a DecodeError if it is larger than any item, an OSError for a failure."""
    from fsspec.asyn import sync

    stream = io.BytesIO()
    sync(system.loop, ItemTransfer(system, url, stream, check_redirect).run)
    return stream.getvalue()


def download_file(system: Any, url: str, path: Path) -> None:
    """Write a file as large as the room on its disk; raise an OSError for a failure."""
    from fsspec.asyn import sync

    with open(path, "wb") as stream:
        sync(system.loop, FileTransfer(system, url, stream).run)


class Transfer:
    """One file on its way from a web server into a stream, over as many connections as it takes."""

    def __init__(self, system: Any, url: str, stream: BinaryIO, check_redirect: CheckUrl | None = None) -> None:
        self.system = system
        self.url = url
        self.stream = stream
        self.check_redirect = check_redirect
        self.received = 0
        self.validator: str | None = None
        """Identity of the version that is being received; None if it cannot be resumed."""
        self._counted = 0
        """Bytes that had been received when the time of the least rate began."""

    async def run(self) -> None:
        """Receive the file; raise the last failure when the retries are used up."""
        limits = DownloadLimits.from_environment()
        failures = 0
        furthest = 0
        while True:
            try:
                await self._receive(limits)
                return
            except TransientError as error:
                is_progress = self.received - furthest >= MIN_PROGRESS_BYTES
                furthest = max(furthest, self.received)
                failures = 1 if is_progress else failures + 1
                wait = choose_wait(error, failures, limits)
                if failures > limits.retries or wait is None:
                    raise
            await asyncio.sleep(wait)

    async def _receive(self, limits: DownloadLimits) -> None:
        """Receive the file, or what is missing of it, over one connection."""
        import aiohttp

        self._counted = self.received
        try:
            async with asyncio.timeout_at(find_deadline(limits)) as timer, await self._request() as response:
                self._begin(response)
                if self._accepts(response):
                    await self._read_body(response, timer, limits)
                    self._check_range(response)
        except aiohttp.ConnectionTimeoutError:
            raise TransientError(f"no connection within {limits.connect_seconds:g} s") from None
        except aiohttp.ServerTimeoutError:
            raise TransientError(f"no data for {limits.silence_seconds:g} s") from None
        except aiohttp.ClientPayloadError:
            raise TransientError(self._describe_end(response)) from None
        except aiohttp.TooManyRedirects:
            raise OSError("too many redirects") from None
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            raise TransientError("the server closed the connection") from None
        except TimeoutError:
            raise TransientError(
                f"{self.received - self._counted:,} bytes in {limits.rate_seconds:g} s; expected at least "
                f"{limits.min_bytes:,.0f} (TOPWORK_MIN_RATE={limits.min_rate:g} bytes a second)"
            ) from None

    async def _read_body(self, response: ClientResponse, timer: asyncio.Timeout, limits: DownloadLimits) -> None:
        """Write the body to the stream; the timer ends it when fewer bytes than the limit came since it was set."""
        self._counted = self.received
        timer.reschedule(find_deadline(limits))
        async for piece in response.content.iter_chunked(PIECE_BYTES):
            self._write(piece)
            if self.received - self._counted >= limits.min_bytes:
                self._counted = self.received
                timer.reschedule(find_deadline(limits))

    def _accepts(self, response: ClientResponse) -> bool:
        """Return whether the body of a response is wanted."""
        return True

    async def _request(self) -> Any:
        """Ask for the file, or for what follows the bytes that are there."""
        import aiohttp

        session = await self.system.set_session()
        watch_redirects(session)
        options = dict(self.system.kwargs)
        headers = {"Accept-Encoding": "identity", **options.pop("headers", {})}
        if self.received and self.validator is not None:
            headers["Range"] = f"bytes={self.received}-"
            headers["If-Range"] = self.validator
        address = self.system.encode_url(self.url)
        try:
            return await session.get(address, headers=headers, trace_request_ctx=self.check_redirect, **options)
        except aiohttp.TooManyRedirects:
            raise
        except aiohttp.ClientResponseError as error:
            cause = " ".join(error.message.split())
            raise OSError(f"the answer of the server is no valid HTTP: {cause[:MAX_CAUSE_LETTERS]}") from None

    def _begin(self, response: ClientResponse) -> None:
        """Check a response, and bring the stream to the place where its body begins."""
        if response.status in (404, 410):
            raise FileNotFoundError(self.url)
        if response.status in RETRIED_STATUSES:
            message = f"the server answered {response.status} {response.reason}"
            raise TransientError(message, parse_retry_after(response.headers.get("Retry-After")))
        is_continued = response.status == 206 and is_range_from(response, self.received)
        if response.status in (206, 416) and not is_continued:
            self.validator = None
            raise TransientError("the server sent another range than it was asked for")
        response.raise_for_status()
        if not is_continued:
            self.stream.seek(0)
            self.stream.truncate()
            self.received = 0
            self.validator = find_validator(response)
        self._check_size(self.received + (find_length(response) or 0))

    def _write(self, piece: bytes) -> None:
        self.received += len(piece)
        self._check_size(self.received)
        self.stream.write(piece)

    def _check_range(self, response: ClientResponse) -> None:
        """Raise an error if a partial response does not reach the end of the file."""
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        if response.status == 206 and total.isdecimal() and self.received < int(total):
            raise TransientError(f"the body ended after {self.received:,} of {int(total):,} bytes")

    def _check_size(self, size: int) -> None:
        """Raise an error for a file that is too large."""

    def _describe_end(self, response: ClientResponse) -> str:
        """Say how much of a body arrived."""
        length = find_length(response)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            return f"the compressed body ended or was damaged after {self.received:,} bytes"
        if length is None:
            return f"the body ended after {self.received:,} bytes, before its end"
        total = length
        if response.status == 206:
            total = int(response.headers["Content-Range"].partition(" ")[2].partition("-")[0]) + length
        return f"the body ended after {self.received:,} of {total:,} bytes"


class ItemTransfer(Transfer):
    """An item on its way into memory."""

    def _check_size(self, size: int) -> None:
        check_size(size)


class FileTransfer(Transfer):
    """A file on its way to a disk, of which some room is left to others: a server may send without an end."""

    def _check_size(self, size: int) -> None:
        free = shutil.disk_usage(self.stream.name).free
        n_missing = size - self.stream.tell()
        if n_missing > free - MIN_FREE_BYTES:
            raise OSError(
                errno.ENOSPC, f"{size:,} bytes or more, of which {n_missing:,} are missing; {free:,} are free"
            )


def find_deadline(limits: DownloadLimits) -> float | None:
    """Return when the least number of bytes must have arrived, by the clock of the loop; None without a limit."""
    if not limits.min_rate:
        return None
    return asyncio.get_running_loop().time() + limits.rate_seconds


def find_length(response: ClientResponse) -> int | None:
    """Return the length of a body that a server announces, None if it does not."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def find_validator(response: ClientResponse) -> str | None:
    """Return what proves that a file is still the same (RFC 9110, 13.1.5); None if it cannot be continued."""
    is_encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    if is_encoded or response.headers.get("Accept-Ranges") != "bytes":
        return None
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified")


def is_range_from(response: ClientResponse, start: int) -> bool:
    """Return whether a partial response begins at a byte."""
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def watch_redirects(session: Any) -> None:
    """Let the check of a request see where it is redirected; aiohttp itself keeps credentials from other hosts."""
    config = find_redirect_watch()
    if config not in session.trace_configs:
        session.trace_configs.append(config)


async def check_redirect_of_request(session: Any, context: Any, params: Any) -> None:
    """Raise an error for a redirect to anything but the web, or the error of a request's check."""
    from yarl import URL

    location = params.response.headers.get("Location") or params.response.headers.get("URI")
    if location is None:
        return
    target = params.response.url.join(URL(location))
    if target.scheme not in WEB_PROTOCOLS:
        raise OSError(f"expected a redirect to http or https, but the server redirects to {target}")
    check: CheckUrl | None = context.trace_request_ctx
    if check is not None:
        check(str(target))


@functools.cache
def find_redirect_watch() -> Any:
    """Return the hook of aiohttp that checks redirects, which is made once."""
    from aiohttp import TraceConfig

    config = TraceConfig()
    config.on_request_redirect.append(check_redirect_of_request)
    config.freeze()
    return config
