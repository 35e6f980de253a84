"""Checks and finds TCP ports."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from typing import Final

from errors import ConfigError

# Between the ports of Ray's workers (10002 to 19999) and those that Linux gives to outgoing connections (from 32768).
_QUIET_PORTS: Final = range(20_000, 32_000)
_MAX_TRIES: Final = 100


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
    """Return a TCP port on loopback that is free, and that no program is given by chance: it is used seconds later.

    Raises:
        ConfigError: A hundred random ports are in use.
    """
    ports = random.SystemRandom()  # without a seed: services that start together must not choose alike
    for _ in range(_MAX_TRIES):
        port = ports.choice(_QUIET_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ConfigError(f"No free TCP port found from {_QUIET_PORTS.start} to {_QUIET_PORTS.stop - 1}.")
