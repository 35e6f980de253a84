"""The wall clock is set under running jobs and a live session."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.faults.load import Caller, Pair
from tests.faults.service_process import served, wait_until_replaced
from tests.faults.viewer import made_avatar, watching

# Debian's package `libfaketime`. The clock of the machine itself is not set: other programs need it.
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
JUMPS_S = (7200, -3600)

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(900)]


@pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime (Debian: apt-get install libfaketime)")
def test_the_clock_is_set_to_and_fro(tmp_path: Path, long_pair: Pair, sample_pair: Pair) -> None:
    clock = tmp_path / "clock"
    _set(clock, 0)
    variables = {
        "LD_PRELOAD": LIBRARIES[0],
        "FAKETIME_TIMESTAMP_FILE": clock,
        "FAKETIME_CACHE_DURATION": 1,
        "FAKETIME_DONT_FAKE_MONOTONIC": 1,
        "FAKETIME_DISABLE_SHM": 1,
    }
    inside = ("env", *(f"{name}={value}" for name, value in variables.items()))
    with served(tmp_path / "data", inside=inside) as service:
        caller = Caller(service.url)
        quiet_id = caller.accepted(long_pair)
        quiet = caller.result(quiet_id)
        ahead_s = 0
        with watching(service, made_avatar(service, sample_pair)) as viewer:
            for jump_s in JUMPS_S:
                viewer.until(len(viewer.arrivals) + 5)
                jobs = [caller.accepted(long_pair) for _ in range(2)]
                ahead_s += jump_s
                _set(clock, ahead_s)
                set_at = time.monotonic()
                assert {caller.result(job_id) for job_id in jobs} == {quiet}
                took_s = time.monotonic() - set_at
                # A replica that dies is replaced. One that hangs is only found if the clock was not set back.
                (renderer,) = service.replicas("FaceSynthesis")
                renderer.send_signal(signal.SIGSTOP if jump_s > 0 else signal.SIGKILL)
                found_s = wait_until_replaced(lambda: service.replicas("FaceSynthesis"), renderer)
                viewer.until(len(viewer.arrivals) + 5)
                print(
                    f"\nclock set by {jump_s:+d} s: 2 jobs done {took_s:.1f} s later, the replica replaced in "
                    f"{found_s:.1f} s"
                )
            viewer.check_whole()
        assert caller.job(quiet_id)["status"] == "succeeded", "results are kept"


def _set(clock: Path, ahead_s: int) -> None:
    """Set the clock by replacing its file: a process that reads an empty one exits."""
    written = clock.with_name("clock.new")
    written.write_text(f"{ahead_s:+d}")
    written.replace(clock)
