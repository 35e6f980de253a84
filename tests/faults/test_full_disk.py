"""A disk that fills up under running jobs: they wait for space, and fail when none comes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx
import pytest

from tests.faults.load import Caller, Pair
from tests.faults.service_process import config_with, served
from tests.faults.test_leaks import small_disk

DISK_MIB = 96
FULL_S = 12.0
MAX_DISK_WAIT_S = 30.0
FILLED_WITH = "filling"

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(600)]


def test_running_jobs_wait_for_space_and_fail_without(tmp_path: Path, long_pair: Pair) -> None:
    config = config_with(tmp_path, jobs={"max_disk_wait_s": MAX_DISK_WAIT_S, "min_free_bytes": 2**20})
    with small_disk(tmp_path / "disk", DISK_MIB) as disk, served(disk / "data", config) as service:
        caller = Caller(service.url)
        quiet = caller.result(caller.accepted(long_pair))

        held = caller.rendering(long_pair)
        _fill(disk)
        full_until = time.monotonic() + FULL_S
        while time.monotonic() < full_until:
            assert caller.job(held)["status"] == "running", "it waits"
            time.sleep(0.5)
        files = {"video": ("face.mp4", long_pair.video), "audio": ("speech.wav", long_pair.audio)}
        # Not by the caller, who goes on asking.
        refused = httpx.post(f"{service.url}/v1/jobs", files=files, timeout=30, trust_env=False)
        assert (refused.status_code, refused.json()["code"]) == (507, "storage_full"), "new jobs are rejected at once"
        (disk / FILLED_WITH).unlink()
        freed_at = time.monotonic()
        assert caller.result(held) == quiet
        took_s = time.monotonic() - freed_at

        failing = caller.rendering(long_pair)
        _fill(disk)
        filled_at = time.monotonic()
        error = caller.wait([failing], 200)[failing]["error"]
        failed_s = time.monotonic() - filled_at
        assert error["code"] == "storage_full" and "Free disk space" in error["message"]
        assert failed_s > MAX_DISK_WAIT_S
        (disk / FILLED_WITH).unlink()
        assert caller.result(caller.accepted(long_pair)) == quiet
    print(
        f"\nfull disk: a job waited {FULL_S:.0f} s and was done {took_s:.1f} s after there was space; "
        f"another failed after {failed_s:.1f} s (limit {MAX_DISK_WAIT_S:.0f} s)"
    )


def _fill(disk: Path) -> None:
    """Leave not a byte."""
    with (disk / FILLED_WITH).open("ab", buffering=0) as file:
        for num_bytes in (2**20, 2**12, 1):
            try:
                while True:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, num_bytes)
            except OSError:
                continue
