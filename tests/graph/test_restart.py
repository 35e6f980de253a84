"""An accepted job survives a restart of the whole service."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from service import free_port

START_S, JOB_S = 120.0, 120.0


@contextmanager
def served(repo_root: Path, data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`lipwright serve` as a process of its own; ended at the end of the block if it still runs."""
    port = free_port()
    command = [sys.executable, "-m", "cli", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    process = subprocess.Popen(command, cwd=repo_root, stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_S
        while not _is_ready(url):
            assert process.poll() is None, "the service ended while starting"
            assert time.monotonic() < deadline, f"not ready in {START_S} s"
            time.sleep(0.2)
        yield process, url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_job_goes_on_after_a_restart(
    repo_root: Path, tmp_path: Path, sample_presenter: Path, long_speech: Path
) -> None:
    def job_of(url: str, job_id: str) -> dict[str, Any]:
        return dict(httpx.get(f"{url}/v1/jobs/{job_id}", timeout=20).raise_for_status().json())

    with served(repo_root, tmp_path) as (process, url):
        files = {"video": sample_presenter.read_bytes(), "audio": long_speech.read_bytes()}
        response = httpx.post(f"{url}/v1/jobs", files=files, timeout=30)
        job_id = response.raise_for_status().json()["id"]
        deadline = time.monotonic() + JOB_S
        while (before := job_of(url, job_id))["num_frames_done"] < 200:
            assert before["status"] in ("queued", "running"), before
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) is not None
    segments = tmp_path / "jobs" / job_id / "segments"
    made = {path.name: path.stat().st_mtime_ns for path in segments.glob("*.mp4")}
    assert made, "finished segments lie in the data folder"

    with served(repo_root, tmp_path) as (_, url):
        kept: dict[str, int] = {}
        deadline = time.monotonic() + JOB_S
        while (job := job_of(url, job_id))["status"] in ("queued", "running"):
            kept.update({path.name: path.stat().st_mtime_ns for path in segments.glob("*.mp4") if path.exists()})
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert job["status"] == "succeeded", job
        assert job["num_frames_done"] == job["num_frames"]
        reused = [name for name in made if kept.get(name) == made[name]]
        assert len(reused) >= len(made) - 2, "finished segments are not made again"
        face = job["report"]["face"]
        num_reported = face["num_frames_rewritten"] + sum(face["num_frames_passed"].values())
        assert num_reported == job["num_frames"], "the report counts what the first service rendered, too"
