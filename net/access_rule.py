"""Who is served: with API keys, whoever has one; without, this machine alone, unless the operator says otherwise."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from net.target import is_loopback

FRONT_HEADER = "x-lipwright-front"
"""Request header in which `launch.front_proxy` names the connected peer and its HTTP version: `ADDRESS VERSION`.

The front writes it anew for every request. A caller that reaches Serve itself can only make itself a stranger with it.
"""


@dataclass(frozen=True)
class AccessRule:
    """The rule of one service; everybody who lets in, starts or examines one asks here.

    Attributes:
        has_keys: Whether there is an API key.
        allow_without_keys: Whether strangers are served as long as there is none.
        trusted_proxies: Networks (CIDR) of proxies that are believed what they say of the way to them.
    """

    has_keys: bool
    allow_without_keys: bool
    trusted_proxies: tuple[str, ...] = ()

    def may_listen(self, host: str) -> bool:
        """Whether the service may listen on an address: not where strangers would be served without a key."""
        return self.has_keys or self.allow_without_keys or is_private(host)

    def serves_without_key(self, is_from_here: bool) -> bool:
        """Whether a request is served that carries no key, by whether it comes from this machine."""
        return not self.has_keys and (self.allow_without_keys or is_from_here)

    def trusts(self, peer: str) -> bool:
        """Whether the peer of a connection is a proxy that is believed; never where peers are hidden."""
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # what a socket for both versions calls an IPv4 peer
        return not hides_peers() and any(address in ip_network(net, strict=False) for net in self.trusted_proxies)


def is_private(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    return is_loopback(host) and not hides_peers()


def hides_peers() -> bool:
    """Whether Serve's HAProxy is in front: it listens on every address, and every peer is that HAProxy, on loopback."""
    return os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
