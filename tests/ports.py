"""TCP ports that stay free until the process that was given one listens on it."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

# Below those that Linux gives to connections and to listeners without a wish, above those of Ray's workers.
_FIRST, _LAST = 20_000, 32_000
_CHANCE = random.SystemRandom()  # no seed: workers of one run must not draw alike


def quiet_port() -> int:
    """A port on loopback that nobody uses, and that nobody is given by chance."""
    for _ in range(100):
        with socket.socket() as probe, suppress(OSError):
            port = _CHANCE.randint(_FIRST, _LAST)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
