"""Protection against server-side request forgery (SSRF): connects only to allowed addresses.

The host name is resolved once, all its addresses must be allowed, and the connection is made to one of them, so DNS
rebinding has no effect. TLS and the Host header use the name. Proxies from the environment are ignored because they
would resolve the name themselves.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import httpcore

from lipwright.config import NetworkConfig
from lipwright.errors import ConfigError, LipwrightError, UrlFetchError, UrlRefusedError
from lipwright.net.target import Target

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host and port to its addresses as text; raises OSError if it has none."""

_UNICAST = IPv6Network("2000::/3")  # global unicast addresses assigned by IANA
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address is in the last 32 bits
# Special ranges that `is_global` of Python 3.11 accepts: 6to4 relays (RFC 7526), documentation (RFC 9637).
_SPECIAL = (IPv4Network("192.88.99.0/24"), IPv6Network("3fff::/20"))
_WEB_PORTS = (80, 443)
_FIRST_FREE_PORT = 1024
_LOOKUP_THREADS = 8


async def resolve_host(host: str, port: int) -> list[str]:
    """Resolves `host` with the system's resolver.

    Lookups have their own threads, so that slow name servers delay nothing but other lookups.

    Raises:
        OSError: The name has no address.
    """
    found = await asyncio.get_running_loop().run_in_executor(
        _lookup_threads(), lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    return [str(entry[4][0]) for entry in found]


class SsrfGuard:
    """Checks URLs and addresses against a `NetworkConfig`.

    `tls` has the trusted certificates, by default the system's and certifi's.

    Raises:
        ConfigError: `allowed_networks` contains an invalid network.
    """

    def __init__(
        self, network: NetworkConfig, resolve: Resolver = resolve_host, tls: ssl.SSLContext | None = None
    ) -> None:
        self.network = network
        self._resolve = resolve
        self._tls = tls
        try:
            self._allowed = [ipaddress.ip_network(text) for text in network.allowed_networks]
        except ValueError as error:
            raise ConfigError(
                f"network.allowed_networks: expected networks such as 10.0.0.0/8, got {error}."
            ) from error

    @property
    def tls(self) -> ssl.SSLContext:
        """The trusted certificates."""
        return self._tls or _system_tls()

    def check(self, url: str) -> Target:
        """Returns the target of `url`; UrlRefusedError if it is not allowed, see `checked`."""
        return self.checked(Target.parse(url))

    def checked(self, target: Target) -> Target:
        """Returns `target`; UrlRefusedError if it is not allowed, as far as is known without a name lookup."""
        if target.scheme not in self.network.url_schemes:
            expected = " or ".join(self.network.url_schemes)
            raise UrlRefusedError(f"{target}: expected the scheme {expected}, found {target.scheme}.")
        # Lower ports belong to services such as mail and SSH, which a crafted request could abuse.
        if target.port not in _WEB_PORTS and target.port < _FIRST_FREE_PORT:
            raise UrlRefusedError(f"{target}: expected port 80, 443 or one from 1024, found {target.port}.")
        address = target.address
        if address is not None and not self.allows(address):
            raise _not_public(target)
        return target

    def allows(self, address: Address) -> bool:
        """Whether `address` is public or in one of `allowed_networks`."""
        plain = (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
        if any(plain in network for network in self._allowed):
            return True
        if isinstance(plain, IPv6Address) and (embedded := _embedded_ipv4(plain)) is not None:
            plain = embedded
        if any(plain in network for network in _SPECIAL) or plain.is_multicast:
            return False
        return plain.is_global and (isinstance(plain, IPv4Address) or plain in _UNICAST)

    async def addresses(self, target: Target) -> list[Address]:
        """Resolves the host.

        Raises:
            UrlRefusedError: One of its addresses is not allowed.
            UrlFetchError: It has no address.
        """
        literal = target.address
        try:
            texts = [str(literal)] if literal is not None else await self._resolve(target.host, target.port)
            found: list[Address] = [ipaddress.ip_address(text) for text in dict.fromkeys(texts)]
        except (OSError, ValueError) as error:  # ValueError: the name cannot be encoded
            raise UrlFetchError(f"{target}: the host {target.host} has no address.") from error
        if not found:
            raise UrlFetchError(f"{target}: the host {target.host} has no address.")
        if not all(self.allows(address) for address in found):
            raise _not_public(target)
        return found

    def pool(self, target: Target) -> httpcore.AsyncConnectionPool:
        """Returns a connection pool for the checked addresses of `target`."""
        return httpcore.AsyncConnectionPool(
            ssl_context=self.tls,
            max_connections=1,
            max_keepalive_connections=0,
            network_backend=_GuardedBackend(self, target),
        )


@contextmanager
def fetch_errors(target: Target) -> Iterator[None]:
    """Translates all errors of an exchange with `target` into UrlFetchError.

    The library's messages are omitted because they can quote what the server sent.
    """
    try:
        yield
    except LipwrightError:  # raised by the caller's code in the block; StageTimeoutError is a TimeoutError, too
        raise
    except (httpcore.ConnectTimeout, httpcore.ConnectError) as error:
        raise UrlFetchError(f"{target}: connection failed{_certificate_fault(error)}.") from error
    except (httpcore.TimeoutException, TimeoutError) as error:
        raise UrlFetchError(f"{target}: the server took too long to respond.") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise UrlFetchError(f"{target}: the response was cut off or is not HTTP.") from error


def _certificate_fault(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f" (certificate: {error.verify_message})"
        error = error.__cause__ or error.__context__
    return ""


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects only to the checked addresses of one target."""

    def __init__(self, guard: SsrfGuard, target: Target) -> None:
        self._guard = guard
        self._target = target
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connects to the first address that responds; `timeout` covers the lookup and all attempts."""
        loop = asyncio.get_running_loop()
        limit_s = self._guard.network.connect_timeout_s
        deadline = loop.time() + limit_s
        try:
            async with asyncio.timeout(limit_s):
                addresses = await self._guard.addresses(self._target)
        except TimeoutError as error:
            raise UrlFetchError(f"{self._target}: the lookup of {host} timed out after {limit_s:g} s.") from error
        last: Exception = httpcore.ConnectError("no address")
        for number, address in enumerate(addresses):
            share_s = (deadline - loop.time()) / (len(addresses) - number)
            try:
                return await self._sockets.connect_tcp(
                    str(address), port, max(share_s, 0.001), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    """Returns the IPv4 address that is embedded in `address` and to which packets are routed."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour


def _not_public(target: Target) -> UrlRefusedError:
    return UrlRefusedError(
        f"{target}: expected a host with public addresses only, found a private one (network.allowed_networks "
        "lists exceptions)."
    )


@cache
def _lookup_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="lookup")


@cache
def _system_tls() -> ssl.SSLContext:
    context = httpcore.default_ssl_context()
    context.load_default_certs()
    return context
