"""CPU time and memory of all descendant processes."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import defaultdict
from types import TracebackType
from typing import Self

import psutil

_INTERVAL_S = 0.5
_REPLICA = re.compile(r"ray::ServeReplica:[^:]+:(\w+)")


def name_of(process: psutil.Process) -> str:
    """Returns the deployment of a replica, or the name of the program."""
    command = " ".join(process.cmdline())
    found = _REPLICA.search(command)
    if found:
        return found.group(1)
    # Actors append the running method to their name: ray::ProxyActor.receive_asgi_messages
    program = command.split(" ")[0].rsplit("/", 1)[-1]
    return program.split(".")[0] if program.startswith("ray::") else program or process.name()


def _started_here() -> list[psutil.Process]:
    """Returns all descendants; this process only measures."""
    return psutil.Process().children(recursive=True)


def cpu_seconds() -> dict[int, tuple[str, float]]:
    """Returns name and CPU seconds, also of its ended children, of each live descendant by process id."""
    seconds: dict[int, tuple[str, float]] = {}
    for process in _started_here():
        with contextlib.suppress(psutil.NoSuchProcess):
            seconds[process.pid] = name_of(process), sum(process.cpu_times()[:4])
    return seconds


def cpu_between(before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]]) -> dict[str, float]:
    """Returns the CPU seconds between two calls of `cpu_seconds`, summed by name.

    Processes that ended in between count with the process that started them.
    """
    spent: defaultdict[str, float] = defaultdict(float)
    for name, seconds in after.values():
        spent[name] += seconds
    for name, seconds in before.values():
        spent[name] -= seconds
    return dict(spent)


class MemoryPeaks:
    """Samples the memory of all descendants twice a second during the block.

    Attributes:
        uss_mib: Peak unique set size by name, in MiB (freed if the process exits); the largest of several replicas.
        rss_mib: Peak resident set size, in MiB; shared pages count in each process.
    """

    def __init__(self) -> None:
        self.uss_mib: dict[str, float] = {}
        self.rss_mib: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            for process in _started_here():
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    memory, name = process.memory_full_info(), name_of(process)
                    self.uss_mib[name] = max(self.uss_mib.get(name, 0.0), memory.uss / 2**20)
                    self.rss_mib[name] = max(self.rss_mib.get(name, 0.0), memory.rss / 2**20)
