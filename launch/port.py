"""Checks and finds TCP ports."""

from __future__ import annotations

import socket


def try_to_listen(host: str, port: int) -> None:
    """Listen briefly at the address of the service.

    Ray Serve shares its port (SO_REUSEPORT): a second service would start, and both would answer.

    Raises:
        OSError: The port is in use or not allowed, or the host is not an address of this machine.
    """
    family, _, _, _, place = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Serve does; connections may linger
        listener.bind(place)
        listener.listen()


def free_port() -> int:
    """Return a TCP port on loopback that is currently free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
