"""Where live streams may be pushed to: what the operator lists, and of it only public addresses.

The URL of a destination contains its secret, the stream key, so no message of this package quotes one.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote

import httpx

from lipwright.config import PUSH_DESTINATION, NetworkConfig
from lipwright.errors import UrlFetchError, UrlRefusedError
from lipwright.net.ssrf_guard import Address, Resolver, SsrfGuard, resolve_host
from lipwright.net.target import Target

SCHEMES: Final = ("rtmp", "rtmps", "srt", "http", "https")
_DEFAULT_PORTS: Final = {"rtmp": 1935, "rtmps": 443, "http": 80, "https": 443}
_EVERY_NETWORK: Final = ("0.0.0.0/0", "::/0")
_EXAMPLES: Final = "rtmps://host/app/key, srt://host:port?streamid=key or https://host/whip/key"


class PushError(UrlFetchError, code="push_failed", retryable=True):
    """A destination cannot be reached, or ended the connection. The message contains no URL."""


class PushRefusedError(UrlRefusedError, code="push_refused"):
    """The destination answers, but does not accept the stream: another try will not help."""


@dataclass(frozen=True)
class _Rule:
    """One entry of `live.push_destinations`; `port` 0 is any port."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> _Rule:
        found = re.fullmatch(PUSH_DESTINATION, text)
        assert found is not None, "the settings are validated"
        scheme, host, port, path = found.group("scheme", "host", "port", "path")
        number = 0 if port == "*" else int(port) if port else _DEFAULT_PORTS.get(scheme, 0)
        return cls(scheme, host.strip("[]"), number, (path or "").rstrip("/"))

    @property
    def names_a_host(self) -> bool:
        """Whether it allows one host, which may then have a private address."""
        return not self.host.startswith("*.")

    def allows(self, target: Target) -> bool:
        is_host = target.host == self.host or (not self.names_a_host and target.host.endswith(self.host[1:]))
        path = unquote(target.path.decode("ascii").partition("?")[0])
        is_path = not self.path or (f"{path}/".startswith(f"{self.path}/") and ".." not in path.split("/"))
        return is_host and is_path and target.scheme == self.scheme and self.port in (0, target.port)


@dataclass(frozen=True)
class Destination:
    """An allowed destination. `str(destination)` is safe to show: scheme, host and port.

    Attributes:
        target: The URL; its path and query are secret.
        guard: Checks the addresses of the host.
        recheck: Returns the destination at another URL, for redirects; UrlRefusedError if it is not allowed.
    """

    target: Target
    guard: SsrfGuard
    recheck: Callable[[str], Destination]

    async def addresses(self) -> list[Address]:
        """Resolves the host; bounded by `network.connect_timeout_s`.

        Raises:
            UrlRefusedError: One of its addresses is not allowed.
            PushError: It has none.
        """
        try:
            async with asyncio.timeout(self.guard.network.connect_timeout_s):
                return await self.guard.addresses(_bare(self.target))
        except (UrlFetchError, TimeoutError) as error:
            raise PushError(f"{self}: the host has no address.") from error

    def at(self, location: str) -> Destination:
        """Returns the destination at a `Location` header in an answer of this one.

        Raises:
            UrlRefusedError: It is not an allowed URL.
        """
        try:
            url = str(httpx.URL(self.target.text).join(location))
        except (httpx.InvalidURL, ValueError):
            raise UrlRefusedError(f"{self}: leads to a Location that is not a URL.") from None
        return self.recheck(url)

    def __str__(self) -> str:
        return str(_bare(self.target)).rstrip("/")


class Destinations:
    """Checks URLs against the operator's list.

    Args:
        rules: `live.push_destinations`.
        network: Private networks that may be reached, and timeouts.
        resolve: Resolves host names.
        tls: Trusted certificates, as for `SsrfGuard`.
    """

    def __init__(
        self,
        rules: tuple[str, ...],
        network: NetworkConfig,
        resolve: Resolver = resolve_host,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = [_Rule.parse(text) for text in rules]
        network = network.model_copy(update={"url_schemes": SCHEMES})
        self._guard = SsrfGuard(network, resolve, tls)
        self._open_guard = SsrfGuard(network.model_copy(update={"allowed_networks": _EVERY_NETWORK}), resolve, tls)

    def check(self, url: str) -> Destination:
        """Returns the destination at `url`, without a name lookup.

        Raises:
            UrlRefusedError: It is not a URL, or not an allowed one.
        """
        if not self._rules:
            raise UrlRefusedError("url: this service pushes to no destination (live.push_destinations is empty).")
        target = _parse(url)
        found = [rule for rule in self._rules if rule.allows(target)]
        if not found:
            raise UrlRefusedError(f"{_bare(target)}: not among the destinations that the operator allows.")
        guard = self._open_guard if any(rule.names_a_host for rule in found) else self._guard
        guard.checked(_bare(target))
        return Destination(target, guard, self.check)


@contextmanager
def push_errors(destination: Destination) -> Iterator[None]:
    """Translates errors of an exchange into PushError. Their messages are omitted: they can quote what was sent."""
    try:
        yield
    except (UrlFetchError, UrlRefusedError):
        raise
    except TimeoutError as error:
        raise PushError(f"{destination}: the server took too long to respond.") from error
    except (OSError, EOFError) as error:
        raise PushError(f"{destination}: the connection was cut off.") from error
    except ValueError as error:
        raise PushError(f"{destination}: the server does not speak the expected protocol.") from error


def _parse(url: str) -> Target:
    """Returns the target of a URL; UrlRefusedError, without the URL, if it is none."""
    if "#" in url:
        raise UrlRefusedError("url: expected no '#'; in a stream ID, write it as %23.")
    try:
        target = Target.parse(url)
    except UrlRefusedError:
        raise UrlRefusedError(f"url: expected {_EXAMPLES}, without a user name or password.") from None
    if target.scheme not in SCHEMES:
        raise UrlRefusedError(f"url: expected {_EXAMPLES}, found the scheme {target.scheme[:20]}.")
    return replace(target, port=target.port or _DEFAULT_PORTS.get(target.scheme, 0))


def _bare(target: Target) -> Target:
    return replace(target, path=b"/")
