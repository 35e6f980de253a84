"""Finds a TCP port, bounds the start of Ray, and waits until a service that was deployed here answers."""

from __future__ import annotations

import faulthandler
import random
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from lipwright.errors import ConfigError, StageTimeoutError, StandbyError

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


_READY_S = 300.0
_POLL_S = 0.2


@contextmanager
def bounded_start(max_s: float = _READY_S) -> Iterator[None]:
    """Exit with status 1 and a traceback if the block takes longer.

    `ray.init` waits for Ray's first workers without a time limit, and keeps the interpreter lock meanwhile, so no
    Python code could stop it. Ray's processes end with this one.
    """
    faulthandler.dump_traceback_later(max_s, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def wait_until_ready(url: str, app_name: str) -> None:
    """Return once every deployment of the application answers, or another service leads.

    Raises:
        ConfigError: A deployment cannot start.
        StageTimeoutError: The service was not ready within five minutes.
    """
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        app = serve.status().applications.get(app_name)
        if app is not None and app.status is ApplicationStatus.DEPLOY_FAILED:
            raise ConfigError(f"The service cannot start: {last_line(app.message)}")
        if app is not None and app.status is ApplicationStatus.RUNNING and is_ready(f"{url}/readyz"):
            return
        time.sleep(_POLL_S)
    raise StageTimeoutError(f"The service was not ready within {_READY_S:.0f} s.")


def is_ready(url: str) -> bool:
    """Return whether `/readyz` at this URL answers, within 10 s, that the service is ready or on standby."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return StandbyError.code.encode() in error.read()
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def last_line(text: str) -> str:
    """Return the last line of an error's text that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
