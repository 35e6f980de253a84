"""Whether a TCP port can be taken."""

from __future__ import annotations

import socket


def try_to_listen(host: str, port: int) -> None:
    """Listen for a moment where the service would.

    Ray Serve shares its port (SO_REUSEPORT): a second service would start beside the first, and both would answer.

    Raises:
        OSError: The port is taken, or not for this user, or the host is no address of this machine.
    """
    family, _, _, _, place = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Serve does; connections may linger
        listener.bind(place)
        listener.listen()


def free_port() -> int:
    """A TCP port on loopback that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
