"""A URL parsed once, so that the checked host is the one connected to."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import unquote

import httpcore
import httpx

from lipwright.errors import UrlRefusedError

_MAX_CHARS = 4096
_MAX_SHOWN_CHARS = 160
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_USER_INFO = re.compile(r"//[^/]*@")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Target:
    """Destination of a request. `str(target)` is safe to show: it contains neither credentials nor the query.

    The scheme is in lower case, the host a name in ASCII without a trailing dot, or an address without brackets, and
    `path` the path and query as sent.
    """

    scheme: str
    host: str
    port: int
    path: bytes

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parses an absolute URL.

        Raises:
            UrlRefusedError: It is not a URL, has no valid host, or contains credentials.
        """
        if len(text) > _MAX_CHARS or _UNSAFE.search(text):
            raise UrlRefusedError(f"{shown(text)}: expected a URL of at most {_MAX_CHARS} plain characters.")
        try:
            url = httpx.URL(text)
            host = url.raw_host.decode("ascii").lower().removesuffix(".")
            port = _DEFAULT_PORTS.get(url.scheme, 0) if url.port is None else url.port
        except (httpx.InvalidURL, ValueError) as error:
            raise UrlRefusedError(f"{shown(text)}: expected a URL such as https://host/file.") from error
        if not url.scheme or not (_is_address(host) or _NAME.match(host)) or port > 65535:
            raise UrlRefusedError(f"{shown(text)}: expected a URL such as https://host/file.")
        if url.userinfo:
            raise UrlRefusedError(f"{shown(text)}: expected a URL without a user name or password.")
        return cls(url.scheme, host, port, url.raw_path)

    def join(self, location: str) -> Target:
        """Returns the target of a `Location` header in this target's response."""
        try:
            return Target.parse(str(httpx.URL(self.text).join(location)))
        except UrlRefusedError as error:
            raise UrlRefusedError(f"{self}: redirects to {error}") from error
        except (httpx.InvalidURL, ValueError) as error:
            raise UrlRefusedError(f"{self}: redirects to {shown(location)}, which is not a URL.") from error

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The address if the host is one, in any notation that resolvers accept; None for a name.

        A host whose last label is a number is an address (WHATWG URL, "ends in a number checker").

        Raises:
            UrlRefusedError: The host looks like an address but is not valid.
        """
        if self.host == "localhost" or self.host.endswith(".localhost"):  # RFC 6761, section 6.3
            return IPv4Address("127.0.0.1")
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            if not _NUMBER.fullmatch(self.host.rpartition(".")[2]):
                return None
        try:
            return IPv4Address(socket.inet_aton(self.host))  # 0x7f000001, 2130706433, 127.1, 0177.0.0.1
        except OSError as error:
            raise UrlRefusedError(f"{self}: expected a host name or an address, found {self.host}.") from error

    @property
    def file_name(self) -> str:
        """The last segment of the path, or the host if there is none. For display only; not safe as a path."""
        path = self.path.decode("ascii").partition("?")[0]
        return unquote(path.rpartition("/")[2], errors="replace") or self.host

    @property
    def url(self) -> httpcore.URL:
        """The URL for httpcore, without parsing it again."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return httpcore.URL(scheme=self.scheme, host=host, port=self.port, target=self.path)

    def __str__(self) -> str:
        return shown(self.text)

    @property
    def text(self) -> str:
        """The URL as text, with its query: for connections, not for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS.get(self.scheme, 0) else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path.decode('ascii')}"


def _is_address(host: str) -> bool:
    try:
        return "%" not in str(ipaddress.ip_address(host))  # a zone identifies a local link
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether `host` (a name, or an address with or without brackets) is loopback."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.lower() == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None  # a dual-stack socket
    return (mapped or address).is_loopback


def shown(text: str) -> str:
    """Returns a URL for messages: without credentials, query and fragment, printable, and shortened."""
    plain = _USER_INFO.sub("//", re.split(r"[?#]", text, maxsplit=1)[0])
    printable = "".join(char if char.isprintable() else "?" for char in plain)
    return printable if len(printable) <= _MAX_SHOWN_CHARS else printable[:_MAX_SHOWN_CHARS] + "..."
