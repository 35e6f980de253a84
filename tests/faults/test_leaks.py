"""Many jobs and bad clients later, nothing is left: files, handles, requests, object-store bytes."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.faults.load import IS_ENDURANCE, Caller, Pair
from tests.faults.service_process import ServiceProcess, config_with, open_files, served
from tests.ports import quiet_port

NUM_JOBS = 100 if IS_ENDURANCE else 24
KEEP_S = 4.0
# A reference that was awaited lies in a cycle of Ray's own (2.60) and waits for Python's collector. At rest 7 to 13 of
# them were seen, 0.27 MB each, after ten jobs as after eighty. One that each job left would be 6.5 MB.
UNCOLLECTED_BYTES = 3_500_000

_OWN_FILES = ("jobs.sqlite3", "service.lock", "service.log", "labels/", "avatars/")


@dataclass(frozen=True)
class Holdings:
    """What the service holds at one moment."""

    files: tuple[str, ...]
    num_handles: int
    num_requests: float
    store_bytes: float


def holdings(service: ServiceProcess, data_dir: Path, metrics_port: int) -> Holdings:
    files = sorted(str(path.relative_to(data_dir)) for path in data_dir.rglob("*") if path.is_file())
    # These stay: the lock, the log, the certificate, the files of the table, which come and go, and cached avatars.
    own = tuple(name for name in files if not name.startswith(_OWN_FILES))
    scraped = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", trust_env=False, timeout=20).text
    return Holdings(
        own,
        open_files(service.processes()),
        _sum(scraped, "ray_serve_replica_processing_queries"),
        _sum(scraped, "ray_object_store_used_memory"),
    )


def _sum(scraped: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}{{[^}}]*}} (\S+)$", scraped, re.MULTILINE))


def cut_upload(url: str, pair: Pair, at: float) -> None:
    """Promise a whole body, send a part of it, and be gone."""
    body = httpx.Request(
        "POST", f"{url}/v1/jobs", files={"video": ("v.jpg", pair.video), "audio": ("a.wav", pair.audio)}
    )
    content = body.read()
    host = urlsplit(url)
    with socket.create_connection((str(host.hostname), int(host.port or 80)), timeout=10) as line:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: {host.netloc}\r\nContent-Length: {len(content)}\r\n"
        line.sendall(f"{head}Content-Type: {body.headers['content-type']}\r\n\r\n".encode())
        line.sendall(content[: int(len(content) * at)])


def read_a_little(url: str, path: str) -> None:
    """Ask, take a few bytes, wait, and be gone."""
    host = urlsplit(url)
    with socket.create_connection((str(host.hostname), int(host.port or 80)), timeout=10) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: {host.netloc}\r\n\r\n".encode())
        line.recv(500)
        time.sleep(0.2)


@pytest.mark.timeout(600)
def test_after_many_jobs_everything_is_back(tmp_path: Path, portrait_pair: Pair) -> None:
    data_dir, metrics_port = tmp_path / "data", quiet_port()
    config = config_with(tmp_path, jobs={"retention_s": KEEP_S, "max_queued_jobs": 10})
    with served(data_dir, config, ("--metrics-port", str(metrics_port))) as service:
        caller = Caller(service.url)
        _abuse(caller, portrait_pair, 10)
        before = _settled(service, data_dir, metrics_port)
        started = time.monotonic()
        _abuse(caller, portrait_pair, NUM_JOBS)
        took_s = time.monotonic() - started
        after = _settled(service, data_dir, metrics_port)
        print(f"\nleaks: {NUM_JOBS} jobs in {took_s:.1f} s; before {before}, after {after}")
        assert after.files == before.files == ()
        assert after.num_requests <= before.num_requests
        assert after.num_handles <= before.num_handles + 10
        assert after.store_bytes <= before.store_bytes + UNCOLLECTED_BYTES
        queue = httpx.get(f"{service.url}/v1/status", trust_env=False).json()["queue"]
        assert (queue["num_queued"], queue["num_arriving"], queue["num_running"], queue["num_bytes"]) == (0, 0, 0, 0)


def _abuse(caller: Caller, pair: Pair, num_jobs: int) -> None:
    """Run jobs; of ten, one is cancelled, one has a slow reader, one a lost follower; cut uploads in between."""
    waiting: list[str] = []
    for number in range(num_jobs):
        while (answer := caller.submit(pair)).status_code == 429:
            time.sleep(float(answer.headers["retry-after"]) / 4)
        job_id = answer.raise_for_status().json()["id"]
        waiting.append(job_id)
        if number % 10 == 1:
            cut_upload(caller.url, pair, (number % 7) / 7)
        if number % 10 == 3:
            caller.request("DELETE", f"/v1/jobs/{job_id}")
        if number % 10 == 5:
            read_a_little(caller.url, f"/v1/jobs/{job_id}/events")
        if number % 10 == 7:
            oldest = waiting[0]
            caller.wait([oldest], 60)
            read_a_little(caller.url, f"/v1/jobs/{oldest}/video")
        waiting = [
            one
            for one in waiting
            if caller.request("GET", f"/v1/jobs/{one}").json().get("status") in ("queued", "running")
        ]
    deadline = time.monotonic() + 200
    while any(
        caller.request("GET", f"/v1/jobs/{one}").json().get("status") in ("queued", "running") for one in waiting
    ):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _settled(service: ServiceProcess, data_dir: Path, metrics_port: int) -> Holdings:
    """What is held once finished jobs are swept and Ray's figures, which lag by seconds, stand still."""
    deadline = time.monotonic() + 60
    last, still = holdings(service, data_dir, metrics_port), 0
    while still < 3 or last.files or last.num_requests:
        if time.monotonic() > deadline:
            break
        time.sleep(2.5)
        now = holdings(service, data_dir, metrics_port)
        still = still + 1 if (now.files, now.store_bytes) == (last.files, last.store_bytes) else 0
        last = now
    return last


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


@pytest.mark.timeout(300)
def test_a_full_disk_is_noticed_and_leaves_nothing(tmp_path: Path, portrait_pair: Pair) -> None:
    config = config_with(tmp_path, jobs={"min_free_bytes": 2_000_000})
    with small_disk(tmp_path / "disk", 48) as disk, served(disk / "data", config) as service:
        caller = Caller(service.url)
        first = caller.accepted(portrait_pair)
        assert caller.wait([first], 60)[first]["status"] == "succeeded"
        filler = disk / "filler"
        free = httpx.get(f"{service.url}/v1/status", trust_env=False).json()["free_disk_bytes"]
        filler.write_bytes(bytes(free - 1_500_000))
        files = sum(1 for path in disk.rglob("*") if path.is_file())
        video = {"video": ("v.jpg", portrait_pair.video)}
        # Not by the caller, who goes on asking.
        refused = httpx.post(f"{service.url}/v1/jobs", files=video, trust_env=False, timeout=30)
        assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
        assert refused.json()["retryable"]
        assert sum(1 for path in disk.rglob("*") if path.is_file()) == files
        assert httpx.get(f"{service.url}/healthz", trust_env=False).status_code == 200
        filler.unlink()
        # Somebody else fills the disk under a running job: everything can still be read, and the job waits for space.
        running = caller.accepted(portrait_pair, loop="hold")
        status = httpx.get(f"{service.url}/v1/status", trust_env=False).json()
        with suppress(OSError):  # the job writes, too: the last writer finds the disk full
            filler.write_bytes(bytes(status["free_disk_bytes"]))
        until = time.monotonic() + 6
        while time.monotonic() < until:
            assert caller.job(first)["status"] == "succeeded"
            assert caller.job(running)["error"] is None
            time.sleep(0.5)
        assert caller.video(first)
        filler.unlink()
        job = caller.wait([running], 90)[running]
        print(f"\nfull disk: the running job ended as {job['status']}: {job['error']}")
        assert job["status"] == "succeeded"
        last = caller.accepted(portrait_pair, loop="loop")
        assert caller.wait([last], 60)[last]["status"] == "succeeded"
