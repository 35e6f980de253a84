"""Serve's controller, or the replica of live sessions, dies or hangs: jobs are kept, and a session goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.faults.load import Caller, Pair
from tests.faults.service_process import ServiceProcess, served, wait_until_replaced
from tests.faults.viewer import made_avatar, watching

KILL = pytest.param(signal.SIGKILL, id="killed")
STOP = pytest.param(signal.SIGSTOP, id="stopped")

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(600)]


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


def test_fork_server(service: ServiceProcess, quiet: str, long_pair: Pair) -> None:
    """Stays last: without it, the processes that it forked are no descendants of the service."""
    caller = Caller(service.url)
    (server,), (controller,), (renderer,) = (
        service.fork_servers(),
        service.controllers(),
        service.replicas("FaceSynthesis"),
    )
    job_id = caller.accepted(long_pair)
    server.kill()
    renderer.kill()
    wait_until_replaced(lambda: service.replicas("FaceSynthesis"), renderer)
    assert caller.result(job_id) == quiet
    controller.send_signal(signal.SIGSTOP)
    wait_until_replaced(service.controllers, controller)
    assert caller.result(caller.accepted(long_pair)) == quiet
