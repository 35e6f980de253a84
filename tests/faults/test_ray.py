"""The command or processes of Ray die: the service ends at once, says why, and resumes its jobs after a start."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from lipwright.launch.watchdog import EXIT_STATUS
from tests.faults.load import Caller, Pair
from tests.faults.service_process import ServiceProcess, served, wait_until_replaced
from tests.faults.viewer import made_avatar, watching

END_S = 40.0  # Ray itself would wait for a minute or for ever
ORPHAN_S = 90.0  # an agent whose raylet and control store were killed tries for a minute to report that


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
def test_service_ends_as_a_whole_and_resumes_its_jobs(
    tmp_path: Path, name: str, reported: str, portrait_pair: Pair, long_pair: Pair
) -> None:
    with served(tmp_path / "data") as service:
        caller = Caller(service.url)
        process_of(service, "haproxy").kill()
        caller.result(caller.accepted(portrait_pair))  # a front that ends is started again
        job = caller.accepted(long_pair)
        command, *others = service.processes()
        assert {"ray::DashboardAgent", "ray::RuntimeEnvAgent"} <= _names(others)
        command.kill()
        killed_at = time.monotonic()
        service.wait(END_S)
        _all_end(others)
        print(f"\nlipwright serve killed: {len(others)} processes ended after {time.monotonic() - killed_at:.1f} s")
        service.start()
        Caller(service.url).result(job)
        _, *others = service.processes()
        with ended(service, tmp_path, name) as ending:
            process_of(service, name).kill()
        _all_end(others)
        assert f"Ray's {reported} has ended" in ending[0]


@pytest.mark.endurance
@pytest.mark.timeout(400)
def test_service_ends_when_its_job_table_is_deleted(tmp_path: Path, long_pair: Pair) -> None:
    with served(tmp_path / "data") as service:
        Caller(service.url).accepted(long_pair)
        with ended(service, tmp_path, "job table") as ending:
            (tmp_path / "data" / "jobs.sqlite3").unlink()
        assert "jobs.sqlite3 was deleted while the service was running" in ending[0]


def _names(processes: list[psutil.Process]) -> set[str]:
    names = set()
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # some come and go
            names.add(process.name())
    return names


def _all_end(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=ORPHAN_S)
    assert not alive, [" ".join(one.cmdline())[:80] for one in alive if one.is_running()]


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


KILL = pytest.param(signal.SIGKILL, id="killed")
STOP = pytest.param(signal.SIGSTOP, id="stopped")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with served(tmp_path_factory.mktemp("controller") / "data") as service:
        yield service


@pytest.fixture(scope="module")
def avatar(service: ServiceProcess, sample_pair: Pair) -> str:
    return made_avatar(service, sample_pair)


@pytest.fixture(scope="module")
def quiet(service: ServiceProcess, long_pair: Pair) -> str:
    """Digest of the result where nothing happens."""
    caller = Caller(service.url)
    return caller.result(caller.accepted(long_pair))


@pytest.mark.endurance
@pytest.mark.timeout(600)
@pytest.mark.parametrize("with_signal", [KILL, STOP])
def test_live_session(
    service: ServiceProcess, avatar: str, quiet: str, long_pair: Pair, with_signal: signal.Signals
) -> None:
    caller = Caller(service.url)
    with watching(service, avatar) as viewer:
        viewer.until(10)
        job_id = caller.accepted(long_pair)
        (replica,) = service.replicas("LiveSession")
        num_connected = viewer.states.count("connected")
        hit_at = time.monotonic()
        replica.send_signal(with_signal)
        viewer.until_state("connected", num_connected + 1)
        back_s = time.monotonic() - hit_at
        viewer.until(len(viewer.arrivals) + 10)
        viewer.check_whole()
        longest_s = max(b - a for a, b in zip(viewer.arrivals, viewer.arrivals[1:], strict=False))
    assert not replica.is_running(), "it was replaced"
    assert caller.result(job_id) == quiet
    print(f"\nLiveSession, {with_signal.name}: rendered again after {back_s:.1f} s, no picture for {longest_s:.1f} s")


@pytest.mark.endurance
@pytest.mark.timeout(600)
@pytest.mark.parametrize("with_signal", [KILL, STOP])
def test_controller(
    service: ServiceProcess, avatar: str, quiet: str, long_pair: Pair, with_signal: signal.Signals
) -> None:
    caller = Caller(service.url)
    with watching(service, avatar) as viewer:
        viewer.until(10)
        job_id = caller.accepted(long_pair)
        (controller,) = service.controllers()
        hit_at = time.monotonic()
        controller.send_signal(with_signal)
        # Only a controller replaces a replica that is gone.
        (renderer,) = service.replicas("FaceSynthesis")
        renderer.kill()
        new_controller_s = wait_until_replaced(service.controllers, controller)
        wait_until_replaced(lambda: service.replicas("FaceSynthesis"), renderer)
        new_renderer_s = time.monotonic() - hit_at
        assert caller.result(job_id) == quiet
        done_s = time.monotonic() - hit_at
        viewer.until(len(viewer.arrivals) + 10)
        viewer.check_whole()
    print(
        f"\nServeController, {with_signal.name}: a new one after {new_controller_s:.1f} s, the renderer replaced after "
        f"{new_renderer_s:.1f} s, the job done after {done_s:.1f} s"
    )
