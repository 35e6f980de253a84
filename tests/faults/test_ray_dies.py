"""Ray's own processes die, or the job table goes: the service ends at once and says why; after a start, it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from launch.watchdog import EXIT_STATUS
from tests.faults.load import Caller, Pair
from tests.faults.service_process import ServiceProcess, served

END_S = 40.0  # Ray itself would wait for a minute or for ever


def process_of(service: ServiceProcess, name: str) -> psutil.Process:
    found = []
    for process in service.processes():
        with suppress(psutil.NoSuchProcess):  # some come and go
            found += [process] if process.name() == name else []
    (only,) = found
    return only


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("raylet", "raylet"),
        pytest.param("gcs_server", "gcs_server", marks=pytest.mark.endurance),
        pytest.param("ray::DashboardAgent", "raylet", marks=pytest.mark.endurance),
        pytest.param("ray::RuntimeEnvAgent", "raylet", marks=pytest.mark.endurance),
    ],
)
def test_the_service_ends_and_its_jobs_go_on_after_a_new_start(
    tmp_path: Path, name: str, reported: str, portrait_pair: Pair, long_pair: Pair
) -> None:
    with served(tmp_path / "data") as service:
        caller = Caller(service.url)
        process_of(service, "haproxy").kill()
        first = caller.accepted(portrait_pair)
        assert caller.wait([first], 120)[first]["status"] == "succeeded", "a front that ends is started again"
        job = caller.accepted(long_pair)
        _, *everything = service.processes()
        killed = process_of(service, name)
        with ended(service, tmp_path, name) as ending:
            killed.kill()
        _, alive = psutil.wait_procs(everything, timeout=END_S)
        assert not alive, [" ".join(one.cmdline())[:80] for one in alive if one.is_running()]
        assert f"Ray's {reported} has ended" in ending[0]
        service.start()
        caller = Caller(service.url)
        final = caller.wait([job], 200)
        assert final[job]["status"] == "succeeded", final[job]["error"]
        caller.accepted(long_pair)
        with ended(service, tmp_path, "job table") as ending:
            (tmp_path / "data" / "jobs.sqlite3").unlink()
        assert "jobs.sqlite3 was deleted while the service was running" in ending[-1]


@pytest.mark.timeout(400)
def test_killed_serve_command_leaves_no_processes(tmp_path: Path) -> None:
    with served(tmp_path / "data") as service:
        command, *others = service.processes()
        assert {"ray::DashboardAgent", "ray::RuntimeEnvAgent"} <= {process.name() for process in others}
        command.kill()
        started = time.monotonic()
        _, alive = psutil.wait_procs(others, timeout=END_S)
        assert not alive, [" ".join(one.cmdline())[:80] for one in alive if one.is_running()]
        print(f"\nlipwright serve killed: {len(others)} processes ended after {time.monotonic() - started:.1f} s")


@contextmanager
def ended(service: ServiceProcess, folder: Path, what: str) -> Iterator[list[str]]:
    """Does in the block what ends the service; afterwards the list holds the lines in which it said why."""
    lines: list[str] = []
    started = time.monotonic()
    yield lines
    status = service.wait(2 * END_S)
    took_s = time.monotonic() - started
    log = (folder / "service.log").read_text(encoding="utf-8")
    lines += [line for line in log.splitlines() if line.startswith("Lipwright exits")]
    print(f"\n{what} lost: ended after {took_s:.1f} s, {status = }, {lines}")
    assert status == EXIT_STATUS
    assert took_s < END_S
