"""Sees whether the processes of a service work: their processor time, and the files that they hold open."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tests.faults.service_process import ServiceProcess

STAGES = ("AudioFeatures", "LandmarkGenerator", "Studio", "FaceSynthesis")
_LOOK_S = 0.1
_BUSY_SHARE = 0.3  # of one core; a service at rest takes some hundredths
_STILL_LOOKS = 5


class WorkWatch:
    """Watches the replicas of these stages, and the decoders that they started."""

    def __init__(self, service: ServiceProcess, stages: tuple[str, ...] = STAGES) -> None:
        self._replicas = [process for kind in stages for process in service.replicas(kind)]
        assert len(self._replicas) >= len(stages)

    def seconds_to_rest(self, since: float, max_s: float) -> float:
        """How long after `since` (monotonic clock) the last of them worked; waits until all are at rest."""
        last, num_still = since, 0
        before, looked_at = self._cpu_seconds(), time.monotonic()
        while num_still < _STILL_LOOKS and looked_at - since < max_s:
            time.sleep(_LOOK_S)
            now, looked_before = self._cpu_seconds(), looked_at
            looked_at = time.monotonic()
            used = sum(seconds - before.get(pid, 0.0) for pid, seconds in now.items())
            if used > _BUSY_SHARE * (looked_at - looked_before):
                last, num_still = looked_at, 0
            else:
                num_still += 1
            before = now
        return last - since if num_still == _STILL_LOOKS else max_s

    def is_working(self) -> bool:
        """Whether they work at this moment."""
        before, started = self._cpu_seconds(), time.monotonic()
        time.sleep(_LOOK_S)
        used = sum(seconds - before.get(pid, 0.0) for pid, seconds in self._cpu_seconds().items())
        return used > _BUSY_SHARE * (time.monotonic() - started)

    def open_files_under(self, folder: Path) -> list[str]:
        """What these processes hold open of a folder."""
        found = []
        for process in self._processes():
            with suppress(OSError):
                files = f"/proc/{process.pid}/fd"
                found += [path for name in os.listdir(files) if (path := _target(f"{files}/{name}"))]
        return [path for path in found if path.startswith(str(folder))]

    def _processes(self) -> list[psutil.Process]:
        found = list(self._replicas)
        for replica in self._replicas:
            with suppress(psutil.NoSuchProcess):
                found += replica.children(recursive=True)
        return found

    def _cpu_seconds(self) -> dict[int, float]:
        used: dict[int, float] = {}
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
        return used


def _target(link: str) -> str:
    with suppress(OSError):
        return os.readlink(link)
    return ""
