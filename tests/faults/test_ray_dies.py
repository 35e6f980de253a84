"""Ray's own processes die, or the job table goes: the service ends at once and says why; after a start, it goes on."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from launch.ray_watch import EXIT_STATUS
from tests.faults.load import Caller, Pair
from tests.faults.service_process import ServiceProcess, served

END_S = 15.0


def process_of(service: ServiceProcess, name: str) -> psutil.Process:
    found = []
    for process in service.processes():
        with suppress(psutil.NoSuchProcess):  # some come and go
            found += [process] if process.name() == name else []
    (only,) = found
    return only


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["raylet", pytest.param("gcs_server", marks=pytest.mark.endurance)])
def test_the_service_ends_and_its_jobs_go_on_after_a_new_start(tmp_path: Path, name: str, long_pair: Pair) -> None:
    with served(tmp_path / "data") as service:
        caller = Caller(service.url)
        job = caller.accepted(long_pair)
        _, *everything = service.processes()
        started = time.monotonic()
        process_of(service, name).kill()
        status = service.wait(2 * END_S)
        _, alive = psutil.wait_procs(everything, timeout=2 * END_S)
        took_s = time.monotonic() - started
        log = (tmp_path / "service.log").read_text(encoding="utf-8")
        line = next((line for line in log.splitlines() if line.startswith("Lipwright ends")), "")
        print(f"\n{name} killed: everything has ended after {took_s:.1f} s, {status = }, {line!r}")
        assert not alive, [" ".join(one.cmdline())[:80] for one in alive if one.is_running()]
        assert took_s < END_S
        assert status == EXIT_STATUS
        assert f"Ray's {name} has ended" in line
        service.start()
        caller = Caller(service.url)
        final = caller.wait([job], 200)
        assert final[job]["status"] == "succeeded", final[job]["error"]


@pytest.mark.timeout(300)
def test_a_front_that_ends_is_started_again_and_a_lost_table_ends_the_service(
    tmp_path: Path, portrait_pair: Pair, long_pair: Pair
) -> None:
    with served(tmp_path / "data") as service:
        caller = Caller(service.url)
        process_of(service, "haproxy").kill()
        job = caller.accepted(portrait_pair)
        assert caller.wait([job], 120)[job]["status"] == "succeeded"
        caller.accepted(long_pair)
        (tmp_path / "data" / "jobs.sqlite3").unlink()
        started = time.monotonic()
        status = service.wait(4 * END_S)
        took_s = time.monotonic() - started
        log = (tmp_path / "service.log").read_text(encoding="utf-8")
        line = next((line for line in log.splitlines() if line.startswith("Lipwright ends")), "")
        print(f"\ntable deleted: ended after {took_s:.1f} s, {status = }, {line!r}")
        assert status == EXIT_STATUS
        assert "jobs.sqlite3: expected the file that was opened at the start, found it is gone" in line
        assert took_s < END_S
