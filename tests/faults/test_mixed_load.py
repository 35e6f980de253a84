"""Some minutes of jobs, new sources and live sessions at once: memory and handles level off."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from benchmarks.process_tree import name_of
from tests.faults.load import LOAD_MINUTES, Caller, Pair
from tests.faults.memory import MemoryWatch
from tests.faults.service_process import ServiceProcess, config_with, open_files, served
from tests.faults.viewer import Viewer, made_avatar, watching

NUM_PARTS = 10
AT_ONCE = 2
SESSION_S = 45.0
MAX_GROWTH, SPARE_MIB, SPARE_HANDLES = 1.10, 16.0, 60
"""By how much the second half of the time may exceed the first, which includes warming up.

Decoders come and go, with about twenty handles each.
"""

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(60 * LOAD_MINUTES + 900)]


@dataclass
class Load:
    """What is asked of the service until the block ends.

    Attributes:
        ends: How many jobs and sessions ended how.
        problems: What went wrong.
    """

    service: ServiceProcess
    pairs: tuple[Pair, ...]
    speech: bytes
    ends: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    _stop: Event = field(default_factory=Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Jobs one after the other in some threads, and sessions in another."""
        avatar = made_avatar(self.service, self.pairs[0])
        threads = [Thread(target=self._jobs, args=(number,), daemon=True) for number in range(AT_ONCE)]
        threads.append(Thread(target=self._sessions, args=(avatar,), daemon=True))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(300)

    def _jobs(self, worker: int) -> None:
        caller, number = Caller(self.service.url), 0
        while not self._stop.is_set():
            number += 1
            pair = self.pairs[number % len(self.pairs)]
            # Bytes after the end of a file make it a new source, which is analysed.
            video = pair.video + f"{worker} {number}".encode() if number % 3 == 0 else pair.video
            try:
                job_id = caller.accepted(Pair(video, pair.audio))
                job = caller.wait([job_id], 300)[job_id]
                self.ends[f"job {job['status']}"] += 1
                self.problems += [str(job["error"])] if job["error"] else []
                caller.video(job_id)
                caller.request("DELETE", f"/v1/jobs/{job_id}")
            except Exception as error:  # reported by the test
                self.problems.append(repr(error))
                self._stop.wait(1)

    def _sessions(self, avatar: str) -> None:
        while not self._stop.is_set():
            try:
                with watching(self.service, avatar) as viewer:
                    self._speak(viewer)
                    viewer.check_whole()
                    self.ends["session"] += 1
            except Exception as error:  # reported by the test
                self.problems.append(repr(error))
                self._stop.wait(1)

    def _speak(self, viewer: Viewer) -> None:
        until = time.monotonic() + SESSION_S
        viewer.until(3)
        while time.monotonic() < until and not self._stop.is_set():
            viewer.send("agent.speak", audio=base64.b64encode(self.speech).decode())
            viewer.send("agent.speak_end")
            viewer.until(len(viewer.arrivals) + 20)


def test_memory_and_handles_level_off(tmp_path: Path, portrait_pair: Pair, sample_pair: Pair) -> None:
    config = config_with(tmp_path, jobs={"retention_s": 60.0})
    load_s = 60 * LOAD_MINUTES
    with served(tmp_path / "data", config) as service:
        # Mono, 16 bits; the session takes 16 kHz for its 24, which makes a high voice.
        load = Load(service, (sample_pair, portrait_pair), portrait_pair.audio[44:])
        handles: list[dict[str, int]] = []
        with MemoryWatch(service) as memory, load.running():
            for _ in range(NUM_PARTS):
                time.sleep(load_s / NUM_PARTS)
                handles.append(_handles(service))
    print(f"\nmixed load: {LOAD_MINUTES:g} minutes, {dict(load.ends)}")
    grown: dict[str, tuple[float, float]] = {}
    for name in sorted(memory.peaks(load_s / 2)):
        parts = memory.in_parts(name, NUM_PARTS)
        early, late = max(parts[: NUM_PARTS // 2]), max(parts[NUM_PARTS // 2 :])
        print(
            f"{name:32} MiB {' '.join(f'{part:.0f}' for part in parts)}; "
            f"handles {' '.join(str(part.get(name, 0)) for part in handles)}"
        )
        if early and late > MAX_GROWTH * early + SPARE_MIB:
            grown[name] = (early, late)
    totals = [sum(part.values()) for part in handles]
    print(f"handles of all: {totals}")
    assert not load.problems
    assert load.ends["session"] > 0 and load.ends["job succeeded"] > 0
    assert not grown, "MiB of the first half, MiB of the second"
    assert max(totals[NUM_PARTS // 2 :]) <= max(totals[: NUM_PARTS // 2]) + SPARE_HANDLES


def _handles(service: ServiceProcess) -> dict[str, int]:
    """Open files by the names of processes."""
    found: Counter[str] = Counter()
    for process in service.processes():
        with suppress(psutil.NoSuchProcess):  # decoders come and go
            found[name_of(process)] += open_files([process])
    return found
