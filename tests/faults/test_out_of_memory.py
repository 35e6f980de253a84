"""The kernel kills decoders or replicas because a cgroup's memory is used up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.faults.load import Caller, Pair
from tests.faults.memory import decodes_for
from tests.faults.service_process import ServiceProcess, served
from tests.waiting import wait_until

CGROUPS = Path("/sys/fs/cgroup/memory")
"""Where version 1 of cgroups is mounted; in version 2, a group with processes of its own can have no groups in it."""
SPARE_BYTES = 128 << 10
"""What a process may allocate until it is killed."""

pytestmark = [
    pytest.mark.endurance,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.access(CGROUPS, os.W_OK), reason="needs root and cgroup v1 for memory"),
]


class MemoryGroup:
    """A cgroup in which little can be allocated until `lift`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, process: psutil.Process) -> None:
        (self._path / "cgroup.procs").write_text(str(process.pid))

    def lift(self) -> None:
        (self._path / "memory.limit_in_bytes").write_text("-1")

    @property
    def num_killed(self) -> int:
        """Processes that the kernel has killed here."""
        lines = (self._path / "memory.oom_control").read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """A new cgroup; what is left in it moves to the group of the test."""
    path = CGROUPS / f"lipwright-test-{os.getpid()}"
    path.mkdir()
    (path / "memory.limit_in_bytes").write_text(str(SPARE_BYTES))
    group = MemoryGroup(path)
    try:
        yield group
    finally:
        group.lift()
        for pid in (path / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (CGROUPS / "cgroup.procs").write_text(pid)
        wait_until(lambda: not (path / "cgroup.procs").read_text())
        path.rmdir()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with served(tmp_path_factory.mktemp("out_of_memory") / "data") as service:
        yield service


@pytest.mark.parametrize("kind", ["Studio", "FaceSynthesis", "LandmarkGenerator"])
def test_a_replica_is_killed(service: ServiceProcess, long_pair: Pair, kind: str) -> None:
    _survives(service, service.replicas(kind), long_pair, kind)


@pytest.mark.parametrize("kind", ["Studio", "AudioFeatures", "MediaProbe"])
def test_decoders_are_killed(service: ServiceProcess, long_pair: Pair, kind: str) -> None:
    _survives(service, decoders(service, kind), long_pair, f"decoders of {kind}")


def _survives(service: ServiceProcess, doomed: list[psutil.Process], pair: Pair, what: str) -> None:
    """Send a job, have the kernel kill what needs memory for it, and give the memory back: the job must succeed."""
    caller = Caller(service.url)
    pair = Pair(pair.video + what.encode(), pair.audio)  # a source that is not analysed yet
    with memory_group() as group:
        for process in doomed:
            group.add(process)
        started = time.monotonic()
        job_id = caller.accepted(pair)
        wait_until(lambda: group.num_killed or caller.job(job_id)["status"] not in ("queued", "running"))
        num_killed = group.num_killed
        group.lift()
        result = caller.result(job_id)
    print(f"\nout of memory: {what}: {num_killed} killed, done after {time.monotonic() - started:.1f} s")
    assert num_killed, "it needed no memory"
    assert result == caller.result(caller.accepted(pair)), "where there is memory enough"


def decoders(service: ServiceProcess, kind: str) -> list[psutil.Process]:
    """The decoders of a deployment, and what they are forked from."""
    found = []
    for process in service.processes():
        with suppress(psutil.NoSuchProcess):
            found += [process] if (decodes_for(process) or "").endswith(kind) else []
    return found
