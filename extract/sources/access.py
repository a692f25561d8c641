"""What a table at a URL may name: files below its own folder, and what the user allows beyond these."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ...errors import DecodeError
from .download import WEB_PROTOCOLS
from .url import is_url, resolve_path, without_query

LOCAL_PROTOCOLS = ("file", "local")
OWN_PROTOCOLS = (*LOCAL_PROTOCOLS, "memory")
"""Where a table is the user's own, as one that is named by its path: on this machine, or in this process."""
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class Address:
    """The parts of a URL: protocol and host (with its port, if it is not the default) in lower case, and the path."""

    protocol: str
    host: str
    path: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Return the parts of a URL without user name, password and query."""
        protocol, _, rest = url.partition("://")
        protocol = protocol.lower()
        is_web = protocol in WEB_PROTOCOLS
        if is_web:
            rest = rest.partition("#")[0].partition("?")[0]
        authority, _, path = rest.partition("/")
        host = authority.rpartition("@")[2].lower()
        if is_web:
            host = host.removesuffix(DEFAULT_PORTS[protocol])
            path = unquote(path)
        return cls(protocol, host, posixpath.normpath(f"/{path}"))


@dataclass(frozen=True)
class Access:
    """What the rows of a table at a URL may name.

    Each host is a name, with a port or without, for web addresses and the protocol of the table; or it has a protocol
    of its own, as ``s3://bucket``.
    """

    table: str
    """URL of the table."""
    remote_path: str
    """Path of the table in its file system."""
    hosts: tuple[str, ...] = ()
    """Hosts that are allowed beside the folder of the table."""
    local: bool = False
    """Whether files of this machine are allowed."""

    def check(self, name: str) -> None:
        """Raise a DecodeError for the name of a file that the table may not name; the file is not looked for."""
        if Address.parse(self.table).protocol in OWN_PROTOCOLS:
            return
        if is_url(name):
            self.check_url(name)
        elif Path(name).is_absolute():
            self._check_local()
        else:
            path = resolve_path(name, table=self.remote_path)
            root = posixpath.dirname(without_query(self.remote_path))
            if not is_inside(without_query(path), root) and not self._is_allowed(Address.parse(self.table)):
                raise DecodeError(self._describe_outside())

    def check_url(self, url: str) -> None:
        """Raise a DecodeError for a URL that the table may not name, and none of its files may redirect to."""
        if "::" in url.partition("://")[0]:
            raise DecodeError("a table at a URL may not chain protocols; expected one protocol, such as https://")
        address = Address.parse(url)
        if address.protocol in LOCAL_PROTOCOLS:
            self._check_local()
            return
        if self._is_allowed(address):
            return
        if not self._is_on_own_host(address):
            raise DecodeError(self._describe_host(address))
        if not is_inside(address.path, posixpath.dirname(Address.parse(self.table).path)):
            raise DecodeError(self._describe_outside())

    def check_redirect(self, url: str) -> None:
        """Raise a DecodeError for a redirect to another host, unless it is allowed."""
        address = Address.parse(url)
        if not self._is_on_own_host(address) and not self._is_allowed(address):
            raise DecodeError(f"the server redirects to another host: {self._describe_host(address)}")

    def _check_local(self) -> None:
        if not self.local:
            raise DecodeError(
                "a table at a URL may not name files of this machine. If you trust the table, allow it: --allow-local "
                "(in Python Table(..., allow_local=True))"
            )

    def _is_on_own_host(self, address: Address) -> bool:
        own = Address.parse(self.table)
        is_both_web = {own.protocol, address.protocol} <= set(WEB_PROTOCOLS)
        return own.host == address.host and (is_both_web or own.protocol == address.protocol)

    def _is_allowed(self, address: Address) -> bool:
        """Return whether the user allows a host."""
        own_protocol = Address.parse(self.table).protocol
        host_without_port = address.host.rpartition(":")[0] or address.host
        for entry in self.hosts:
            protocol, _, host = entry.lower().rstrip("/").rpartition("://")
            protocols = (protocol,) if protocol else (own_protocol, *WEB_PROTOCOLS)
            if address.protocol in protocols and host in (address.host, host_without_port):
                return True
        return False

    def _describe_host(self, address: Address) -> str:
        host = address.host
        if address.protocol not in WEB_PROTOCOLS:
            host = f"{address.protocol}://{host}"
        return (
            f"a table at {Address.parse(self.table).host} may not name files at {host}. If you trust the table, allow "
            f"it: --allow-hosts {host} (in Python Table(..., allow_hosts=[{host!r}]))"
        )

    def _describe_outside(self) -> str:
        host = Address.parse(self.table).host
        return (
            "a table at a URL may name files below its own folder only. If you trust the table, allow its whole host: "
            f"--allow-hosts {host} (in Python Table(..., allow_hosts=[{host!r}]))"
        )


def is_inside(path: str, folder: str) -> bool:
    """Return whether a path without ``..`` lies below a folder."""
    return path.startswith(folder.rstrip("/") + "/")
