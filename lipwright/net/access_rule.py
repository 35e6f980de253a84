"""Who may use the API: callers with an API key, or, as long as no key exists, this machine only (configurable)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from lipwright.net.target import is_loopback

FRONT_HEADER = "x-lipwright-front"
"""Request header in which the front proxy names the connected peer and its HTTP version: `ADDRESS VERSION`.

The proxy overwrites it for every request. A caller that reaches Serve directly can only lower its own rights with it.
"""


@dataclass(frozen=True)
class AccessRule:
    """Access rule of one service, for the API, the launcher and the doctor; `trusted_proxies` are networks (CIDR)."""

    has_keys: bool
    allow_without_keys: bool
    trusted_proxies: tuple[str, ...] = ()

    def may_listen(self, host: str) -> bool:
        """Whether the service may listen on an address: not if it would serve other machines without a key."""
        return self.has_keys or self.allow_without_keys or is_private(host)

    def serves_without_key(self, is_from_here: bool) -> bool:
        """Whether a request without a key is served, given whether it comes from this machine."""
        return not self.has_keys and (self.allow_without_keys or is_from_here)

    def trusts(self, peer: str) -> bool:
        """Whether the peer of a connection is a trusted proxy; never if peers are unknown."""
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # an IPv4 peer of a dual-stack socket
        return not hides_peers() and any(address in ip_network(net, strict=False) for net in self.trusted_proxies)


def is_private(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    return is_loopback(host) and not hides_peers()


def hides_peers() -> bool:
    """Whether Serve's HAProxy is used: it listens on every address, and every peer is that HAProxy on loopback."""
    return os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
