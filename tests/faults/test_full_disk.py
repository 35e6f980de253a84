"""A disk that fills up: new jobs are refused, running ones wait for space and fail when none comes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.faults.load import Caller, Pair
from tests.faults.service_process import ServiceProcess, config_with, served

DISK_MIB = 96
FULL_S = 12.0
MAX_DISK_WAIT_S = 30.0
FILLED_WITH = "filling"
_FREE_BOX = b"\0\0\0\x09free"  # of an MP4 file, with one byte of content

pytestmark = pytest.mark.timeout(600)


@contextmanager
def small_disk(folder: Path, num_mib: int) -> Iterator[Path]:
    """A file system of its own in memory; needs the right to mount one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={num_mib}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a small file system: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def on_small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, ServiceProcess]]:
    """A small disk, and a service whose data folder is on it."""
    folder = tmp_path_factory.mktemp("full_disk")
    config = config_with(folder, jobs={"min_free_bytes": 2_000_000})
    with small_disk(folder / "disk", DISK_MIB // 2) as disk, served(disk / "data", config) as service:
        yield disk, service


@pytest.mark.endurance
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


@pytest.mark.endurance
def test_jobs_wait_when_disk_fills_in_any_stage(tmp_path: Path, sample_pair: Pair, sample_portrait: Path) -> None:
    """A new source and a background each, so that jobs probe, search, analyse, make mattes, render and join."""
    config = config_with(tmp_path, jobs={"max_disk_wait_s": 120.0, "min_free_bytes": 2**20, "max_running_jobs": 2})
    face = sample_portrait.read_bytes()
    with small_disk(tmp_path / "disk", 2 * DISK_MIB) as disk, served(disk / "data", config) as service:
        caller = Caller(service.url)
        for number in range(8):
            video = sample_pair.video + _FREE_BOX + bytes([number]) if number % 2 else face + bytes(number)
            job_id = caller.accepted(Pair(video, sample_pair.audio), background="#00ff00")
            until = time.monotonic() + number  # in another stage each time
            while time.monotonic() < until and caller.job(job_id)["status"] in ("queued", "running"):
                time.sleep(0.05)
            stage = caller.job(job_id)["stage"]
            _fill(disk)
            time.sleep(FULL_S / 2)
            (disk / FILLED_WITH).unlink()
            job = caller.wait([job_id], 120)[job_id]
            print(f"\ndisk full in stage {stage}: {job['status']}")
            assert job["error"] is None, job["error"]


def test_full_disk_refuses_jobs_and_leaves_no_files(
    on_small_disk: tuple[Path, ServiceProcess], portrait_pair: Pair
) -> None:
    disk, service = on_small_disk
    caller, filler = Caller(service.url), disk / FILLED_WITH
    first = caller.accepted(portrait_pair)
    caller.result(first)
    free = caller.request("GET", "/v1/status").json()["free_disk_bytes"]
    filler.write_bytes(bytes(free - 1_500_000))
    files = {path for path in disk.rglob("*") if path.is_file()}
    # Not by the caller, who goes on asking.
    video = {"video": ("v.jpg", portrait_pair.video)}
    refused = httpx.post(f"{service.url}/v1/jobs", files=video, trust_env=False, timeout=30)
    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
    assert refused.json()["retryable"]
    assert {path for path in disk.rglob("*") if path.is_file()} <= files, "cached avatars may be evicted"
    assert caller.request("GET", "/healthz").status_code == 200
    filler.unlink()
    # Another program fills the disk under a running job: everything can still be read, and the job waits for space.
    running = caller.accepted(portrait_pair, loop="hold")
    with suppress(OSError):  # the job writes, too: the last writer finds the disk full
        filler.write_bytes(bytes(caller.request("GET", "/v1/status").json()["free_disk_bytes"]))
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert caller.job(running)["error"] is None
        time.sleep(0.2)
    assert caller.video(first)
    filler.unlink()
    assert caller.result(running) == caller.result(caller.accepted(portrait_pair, loop="hold"))


def test_full_disk_evicts_cached_avatars_for_new_jobs(
    on_small_disk: tuple[Path, ServiceProcess], portrait_pair: Pair
) -> None:
    disk, service = on_small_disk
    caller = Caller(service.url)
    for number in range(6):  # six sources of 10 MB, of which the disk holds four
        job_id = caller.accepted(Pair(portrait_pair.video + bytes(10_000_000 + number), portrait_pair.audio))
        caller.result(job_id)
        caller.request("DELETE", f"/v1/jobs/{job_id}").raise_for_status()
    assert 0 < len(list((disk / "data" / "avatars").iterdir())) < 6


def _fill(disk: Path) -> None:
    """Leave not a byte."""
    with (disk / FILLED_WITH).open("ab", buffering=0) as file:
        for num_bytes in (2**20, 2**12, 1):
            try:
                while True:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, num_bytes)
            except OSError:
                continue
