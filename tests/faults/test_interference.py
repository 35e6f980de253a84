"""Another program locks the job table, or the wall clock is set, under running jobs and a live session."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.faults.load import Caller, Pair, segment_times
from tests.faults.service_process import served, wait_until_replaced
from tests.faults.viewer import made_avatar, watching

LOCKS_S = (5.0, 30.0, 120.0)

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(1200)]


def test_jobs_stop_and_continue(tmp_path: Path, long_pair: Pair, sample_pair: Pair) -> None:
    data_dir = tmp_path / "data"
    with served(data_dir) as service, watching(service.url, made_avatar(service, sample_pair)) as viewer:
        caller = Caller(service.url)
        quiet = caller.result(caller.accepted(long_pair))
        for lock_s in LOCKS_S:
            job_id = caller.rendering(long_pair)
            num_chunks = len(viewer.arrivals)
            with locked(data_dir / "jobs.sqlite3"):
                made = segment_times(data_dir, job_id)
                refused = _while_locked(service.url, caller, job_id, sample_pair, lock_s)
                viewer.until(num_chunks + 5)
            freed_at, kept = time.monotonic(), set[tuple[str, int]]()
            while caller.job(job_id)["status"] == "running":
                kept |= segment_times(data_dir, job_id) & made
                time.sleep(0.05)
            assert len(kept) >= len(made) - 1, "only one that was not recorded yet is made again"
            assert caller.result(job_id) == quiet
            done_s = time.monotonic() - freed_at
            answered_s, num_kept = refused.elapsed.total_seconds(), f"{len(kept)} of {len(made)} segments kept"
            print(
                f"\nlocked for {lock_s:.0f} s: {refused.status_code}, {answered_s = :.1f}, {done_s = :.1f}, {num_kept}"
            )
            assert caller.result(caller.accepted(long_pair)) == quiet
        viewer.check_whole()


@contextmanager
def locked(table: Path) -> Iterator[None]:
    with closing(sqlite3.connect(table, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


def _while_locked(url: str, caller: Caller, job_id: str, pair: Pair, lock_s: float) -> httpx.Response:
    """Look at the service for so long; returns what a submission was answered."""
    until = time.monotonic() + lock_s
    files = {"video": ("face.mp4", pair.video), "audio": ("speech.wav", pair.audio)}
    refused = httpx.post(f"{url}/v1/jobs", files=files, timeout=60, trust_env=False)
    assert (refused.status_code, refused.json()["code"]) == (503, "job_table_unreachable"), refused.text
    assert refused.json()["retryable"] and int(refused.headers["retry-after"]) > 0
    while time.monotonic() < until:
        job = caller.job(job_id)
        assert (job["status"], job["error"]) == ("running", None), "it can be read, and waits"
        assert httpx.get(f"{url}/healthz", timeout=10, trust_env=False).status_code == 200
        time.sleep(0.5)
    return refused


# Debian's package `libfaketime`. The clock of the machine itself is not set: other programs need it.
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
JUMPS_S = (7200, -3600)


@pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime (Debian: apt-get install libfaketime)")
def test_the_clock_is_set_to_and_fro(tmp_path: Path, long_pair: Pair, sample_pair: Pair) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
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
        with watching(service.url, made_avatar(service, sample_pair)) as viewer:
            for jump_s in JUMPS_S:
                viewer.until(len(viewer.arrivals) + 5)
                jobs = [caller.accepted(long_pair) for _ in range(2)]
                (controller,) = service.controllers()
                ahead_s += jump_s
                clock.write_text(f"{ahead_s:+d}")
                set_at = time.monotonic()
                assert {caller.result(job_id) for job_id in jobs} == {quiet}
                took_s = time.monotonic() - set_at
                if jump_s < 0:
                    wait_until_replaced(service.controllers, controller)
                # A replica that hangs is still found, whatever the clock was.
                (renderer,) = service.replicas("FaceSynthesis")
                renderer.send_signal(signal.SIGSTOP)
                found_s = wait_until_replaced(lambda: service.replicas("FaceSynthesis"), renderer)
                viewer.until(len(viewer.arrivals) + 5)
                print(f"\nclock {jump_s:+d} s: 2 jobs done {took_s:.1f} s, hung replica replaced in {found_s:.1f} s")
            viewer.check_whole()
        assert caller.job(quiet_id)["status"] == "succeeded", "results are kept"
