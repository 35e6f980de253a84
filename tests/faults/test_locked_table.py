"""Another program locks the job table under running jobs and a live session."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.faults.load import IS_ENDURANCE, Caller, Pair, digest
from tests.faults.service_process import served
from tests.faults.viewer import made_avatar, watching

LOCKS_S = (5.0, 30.0, 120.0) if IS_ENDURANCE else (8.0,)


@pytest.mark.timeout(1200)
def test_jobs_stop_and_continue(tmp_path: Path, long_pair: Pair, sample_pair: Pair) -> None:
    data_dir = tmp_path / "data"
    with served(data_dir) as service, watching(service, made_avatar(service, sample_pair)) as viewer:
        caller = Caller(service.url)
        quiet_id = caller.accepted(long_pair)
        assert caller.wait([quiet_id], 200)[quiet_id]["error"] is None
        quiet = digest(caller.video(quiet_id))
        for lock_s in LOCKS_S:
            job_id = caller.rendering(long_pair)
            num_chunks = len(viewer.arrivals)
            with locked(data_dir / "jobs.sqlite3"):
                refused = _while_locked(service.url, caller, job_id, sample_pair, lock_s)
                kept = {path: path.stat().st_mtime_ns for path in _segments(data_dir, job_id)}
                viewer.until(num_chunks + 5)
            freed_at = time.monotonic()
            assert caller.wait([job_id], 200)[job_id]["error"] is None
            done_s = time.monotonic() - freed_at
            print(
                f"\nlocked for {lock_s:.0f} s: a submission got {refused.status_code} after "
                f"{refused.elapsed.total_seconds():.1f} s, the running job was done {done_s:.1f} s "
                f"after the lock, {len(kept)} segments made until then"
            )
            assert digest(caller.video(job_id)) == quiet
            accepted = caller.accepted(long_pair)
            assert caller.wait([accepted], 200)[accepted]["error"] is None
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


def _segments(data_dir: Path, job_id: str) -> list[Path]:
    return list((data_dir / "jobs" / job_id / "segments").glob("*.mp4"))
