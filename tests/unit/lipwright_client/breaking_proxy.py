"""A TCP proxy in front of a test service that breaks connections without a close frame, as a proxy that dies does."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class BreakingProxy:
    """Forwards connections from `url` to a service; `refuses` new ones; clear `answers` to hold back the service's."""

    def __init__(self, service_url: str) -> None:
        target = urlsplit(service_url)
        self._target = (target.hostname, target.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.refuses, self.num_accepted, self.answers = False, 0, threading.Event()
        self.answers.set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        """Reset all connections."""
        for each in self._sockets:
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._sockets.clear()

    def close(self) -> None:
        """Stop."""
        self._listener.close()
        self.cut()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.num_accepted += 1
            if self.refuses:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            threading.Thread(target=_pump, args=(server, client, self.answers), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket, is_open: threading.Event | None = None) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            if is_open is not None:
                is_open.wait()
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def breaking_proxy(service_url: str) -> Iterator[BreakingProxy]:
    """Run the proxy for the block."""
    with closing(BreakingProxy(service_url)) as proxy:
        yield proxy
