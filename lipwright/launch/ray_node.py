"""The processes of the Ray node that this process started with `ray.init`."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Final

import psutil

logger = logging.getLogger(__name__)

_NEEDED: Final = ("raylet", "gcs_server")
_CONTROLLER: Final = "ray::ServeController"
_PERIOD_S: Final = 5.0


class RayNode:
    """Watches Ray's raylet and control store, and asks Serve's controller for its status every five seconds."""

    def __init__(self) -> None:
        """Find the processes; call this after `ray.init`."""
        self._started = psutil.Process().children(recursive=True)
        self._needed = [(process.name(), process) for process in self._started if process.name() in _NEEDED]
        self._answered_at: float | None = None
        self._is_closed = threading.Event()
        threading.Thread(target=self._ask_controller, name="controller-status", daemon=True).start()

    def dead_processes(self) -> list[str]:
        """Return the names of those that the service needs and that have ended, such as "raylet"."""
        return [name for name, process in self._needed if not is_alive(process)]

    def kill(self) -> None:
        """Kill everything that was started, also what is no descendant of this process since a raylet died."""
        for process in {*self._started, *psutil.Process().children(recursive=True)}:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def controller_silence_s(self) -> float:
        """Return for how many seconds Serve's controller has not answered; 0 before its first answer."""
        return 0.0 if self._answered_at is None else time.monotonic() - self._answered_at

    def restart_controller(self) -> None:
        """Kill the process of Serve's controller, also a stopped one; Ray starts another one, which continues."""
        self._answered_at = None
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.cmdline()[:1] and process.cmdline()[0].startswith(_CONTROLLER):
                    process.kill()

    def close(self) -> None:
        """Stop asking the controller."""
        self._is_closed.set()

    def _ask_controller(self) -> None:
        from ray import serve

        while not self._is_closed.wait(_PERIOD_S):
            try:
                if serve.status().applications:  # blocks while the controller hangs
                    self._answered_at = time.monotonic()
            except Exception as error:  # Ray raises exceptions of any class; its processes may be ending
                logger.warning("could not ask whether Serve's controller is alive: %r", error)


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; one that has ended and was not waited for does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
