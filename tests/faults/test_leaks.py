"""Many jobs and bad clients later, nothing is left: files, handles, requests, object-store bytes."""

from __future__ import annotations

import math
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
# Ray reports the store's use every ten seconds; finished jobs are swept after `KEEP_S`.
RETURN_S = 60.0
# Updates of routers that Serve's controller keeps; 1.7 MB before the first job and after a hundred. A chunk of faces or
# the features of a block take 1 MB.
MAX_STORE_BYTES = 2_200_000
MAX_OPENED_FILES = 10

_OWN_FILES = ("jobs.sqlite3", "service.lock", "service.log", "labels/", "avatars/")


@dataclass(frozen=True)
class Holdings:
    """What the service holds at one moment."""

    files: tuple[str, ...]
    num_open_files: int
    num_requests: float
    store_bytes: float
    queue: tuple[int, ...]  # queued, arriving and running jobs, and their bytes

    def is_idle(self) -> bool:
        """Whether nothing of a job is left, apart from files that are still open."""
        return not self.files and not self.num_requests and not any(self.queue) and self.store_bytes < MAX_STORE_BYTES


def holdings(service: ServiceProcess, data_dir: Path, metrics_port: int) -> Holdings:
    files = sorted(str(path.relative_to(data_dir)) for path in data_dir.rglob("*") if path.is_file())
    # These stay: the lock, the log, the certificate, the files of the table, which come and go, and cached avatars.
    own = tuple(name for name in files if not name.startswith(_OWN_FILES))
    scraped = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", trust_env=False, timeout=20).text
    queue = httpx.get(f"{service.url}/v1/status", trust_env=False, timeout=20).json()["queue"]
    return Holdings(
        own,
        open_files(service.processes()),
        _sum(scraped, "ray_serve_replica_processing_queries"),
        _sum(scraped, "ray_object_store_used_memory"),
        tuple(queue[name] for name in ("num_queued", "num_arriving", "num_running", "num_bytes")),
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
def test_service_after_many_jobs_holds_nothing(tmp_path: Path, portrait_pair: Pair) -> None:
    data_dir, metrics_port = tmp_path / "data", quiet_port()
    config = config_with(tmp_path, jobs={"retention_s": KEEP_S, "max_queued_jobs": 10})
    with served(data_dir, config, ("--metrics-port", str(metrics_port))) as service:
        caller = Caller(service.url)
        _abuse(caller, portrait_pair, 10)
        before = _returned(service, data_dir, metrics_port)
        started = time.monotonic()
        _abuse(caller, portrait_pair, NUM_JOBS)
        took_s = time.monotonic() - started
        after = _returned(service, data_dir, metrics_port, before.num_open_files + MAX_OPENED_FILES)
        print(f"\nleaks: {NUM_JOBS} jobs in {took_s:.1f} s; before {before}, after {after}")


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


def _returned(service: ServiceProcess, data_dir: Path, metrics_port: int, max_open_files: float = math.inf) -> Holdings:
    """What is held once the service is idle again; fails if it is not within `RETURN_S`."""
    deadline = time.monotonic() + RETURN_S
    while True:
        held = holdings(service, data_dir, metrics_port)
        if held.is_idle() and held.num_open_files <= max_open_files:
            return held
        assert time.monotonic() < deadline, f"after {RETURN_S:.0f} s, at most {max_open_files} open files: {held}"
        time.sleep(1)


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
        files = {path for path in disk.rglob("*") if path.is_file()}
        video = {"video": ("v.jpg", portrait_pair.video)}
        # Not by the caller, who goes on asking.
        refused = httpx.post(f"{service.url}/v1/jobs", files=video, trust_env=False, timeout=30)
        assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
        assert refused.json()["retryable"]
        assert {path for path in disk.rglob("*") if path.is_file()} <= files, "cached avatars may be evicted"
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
