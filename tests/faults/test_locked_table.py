"""Another program locks the job table under running jobs and a live session."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.faults.load import Caller, Pair
from tests.faults.service_process import served
from tests.faults.viewer import made_avatar, watching

LOCKS_S = (5.0, 30.0, 120.0)

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(1200)]


def test_jobs_stop_and_continue(tmp_path: Path, long_pair: Pair, sample_pair: Pair) -> None:
    data_dir = tmp_path / "data"
    with served(data_dir) as service, watching(service, made_avatar(service, sample_pair)) as viewer:
        caller = Caller(service.url)
        quiet = caller.result(caller.accepted(long_pair))
        for lock_s in LOCKS_S:
            job_id = caller.rendering(long_pair)
            num_chunks = len(viewer.arrivals)
            with locked(data_dir / "jobs.sqlite3"):
                made = _segments(data_dir, job_id)
                refused = _while_locked(service.url, caller, job_id, sample_pair, lock_s)
                viewer.until(num_chunks + 5)
            freed_at, kept = time.monotonic(), set[tuple[str, int]]()
            while caller.job(job_id)["status"] == "running":
                kept |= _segments(data_dir, job_id) & made
                time.sleep(0.05)
            assert len(kept) >= len(made) - 1, "only one that was not recorded yet is made again"
            assert caller.result(job_id) == quiet
            done_s = time.monotonic() - freed_at
            print(
                f"\nlocked for {lock_s:.0f} s: a submission got {refused.status_code} after "
                f"{refused.elapsed.total_seconds():.1f} s, the running job was done {done_s:.1f} s "
                f"after the lock, {len(kept)} of {len(made)} segments kept"
            )
            assert caller.result(caller.accepted(long_pair)) == quiet
        viewer.check_whole()


@contextmanager
def locked(table: Path) -> Iterator[None]:
    """Nobody else can change the table in the block."""
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


def _segments(data_dir: Path, job_id: str) -> set[tuple[str, int]]:
    """Path and time of every finished segment."""
    found = set()
    for path in (data_dir / "jobs" / job_id / "segments").glob("*.mp4"):
        with suppress(FileNotFoundError):
            found.add((str(path), path.stat().st_mtime_ns))
    return found
