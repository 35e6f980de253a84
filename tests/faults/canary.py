"""A listener that nobody may call: it notes every connection to a port of loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.waiting import wait_until


@dataclass
class Canary:
    """Where it listens, and who called."""

    port: int
    heard: list[str] = field(default_factory=list)


@contextlib.contextmanager
def listening_canary() -> Iterator[Canary]:
    """A canary on a free port of 127.0.0.1, and of ::1 where there is one. It has received a test request."""
    ears = [socket.create_server(("127.0.0.1", 0))]
    canary = Canary(int(ears[0].getsockname()[1]))
    with contextlib.suppress(OSError):  # no IPv6 on this machine
        ears.append(socket.create_server(("::1", canary.port), family=socket.AF_INET6))
    for ear in ears:
        threading.Thread(target=_listen, args=(ear, canary), daemon=True).start()
    try:
        with socket.create_connection(("127.0.0.1", canary.port), 60):
            wait_until(lambda: canary.heard, 60)
        canary.heard.clear()
        yield canary
    finally:
        for ear in ears:
            ear.close()


def _listen(ear: socket.socket, canary: Canary) -> None:
    while True:
        try:
            line, address = ear.accept()
        except OSError:
            return  # closed
        canary.heard.append(str(address))
        line.close()
