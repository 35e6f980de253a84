"""Whether /healthz and /v1/status are answered while a service is under load, and how fast."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

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


NO_ANSWER_S = 60.0
# What an answer of the bystander takes is what one process waits for; an answer of the service passes four.
NUM_PROCESSES = 4
_BYSTANDER = """
import http.server

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


class HealthProbe:
    """Asks /healthz ten times a second and notes how long each answer takes; none at all counts as a minute.

    Each time it opens a connection, as supervisors do. With an API key, it asks /v1/status as often.

    A bystander, a small HTTP server that has nothing to do with the service, is asked as often: what it takes is the
    machine's doing.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._stop = threading.Event()
        self.seconds: list[float] = []
        self.status_seconds: list[float] = []
        self.bystander_seconds: list[float] = []
        self._counted_from = 0.0
        self._bystander = subprocess.Popen([sys.executable, "-c", _BYSTANDER], stdout=subprocess.PIPE, text=True)
        assert self._bystander.stdout is not None
        port = self._bystander.stdout.readline().strip()
        asked = {f"{url}/healthz": self.seconds, f"http://127.0.0.1:{port}/": self.bystander_seconds}
        if api_key:
            asked[f"{url}/v1/status"] = self.status_seconds
        self._headers = {"Connection": "close"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        self._threads = [threading.Thread(target=self._run, args=one, daemon=True) for one in asked.items()]

    @classmethod
    def looks(cls, url: str, promised_s: float, most: int = 3) -> Iterator[HealthProbe]:
        """Probes, one after the other, each to be entered while its caller attacks, until one finds the promise kept.

        For attacks of a few seconds: p99 of so few answers is the longest of them, and a machine may stand still for
        the time of one.

        Args:
            url: The service's address.
            promised_s: p99 where nothing else runs.
            most: So many are given at most; the last one says what is asserted.
        """
        for _ in range(most):
            probe = cls(url)
            yield probe
            if probe.percentile(0.99) < probe.bound(promised_s):
                return

    def __enter__(self) -> HealthProbe:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        self._bystander.kill()
        self._bystander.communicate()

    def _run(self, url: str, seconds: list[float]) -> None:
        with httpx.Client(trust_env=False, timeout=10, headers=self._headers) as client:
            while not self._stop.wait(0.1):
                started = time.perf_counter()
                try:
                    client.get(url).raise_for_status()
                    took_s = time.perf_counter() - started
                except httpx.HTTPError:
                    took_s = NO_ANSWER_S
                if started >= self._counted_from:
                    seconds.append(took_s)

    def count_from_now(self) -> None:
        """Leave out what was asked until now: it waited behind requests that were there before it."""
        self._counted_from = time.perf_counter()
        self.seconds.clear()

    def percentile(self, share: float, seconds: list[float] | None = None) -> float:
        """Seconds within which that share of the answers came: of /healthz, or of those in `seconds`."""
        ordered = sorted(self.seconds if seconds is None else seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def bound(self, promised_s: float) -> float:
        """What p99 has to stay under: what is promised of a machine that does nothing else, and the machine's doing.

        The bystander's longest answer counts: it waits at other times than the service, and only in some seconds
        does it wait at all.

        Args:
            promised_s: p99 where nothing else runs.
        """
        return promised_s + NUM_PROCESSES * max(self.bystander_seconds)
