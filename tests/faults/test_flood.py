"""A flood of submissions before narrow stages; many jobs and bad clients later, the service holds nothing."""

from __future__ import annotations

import math
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from tests.faults.health_probe import HealthProbe
from tests.faults.load import IS_ENDURANCE, Caller, Pair, submit_all
from tests.faults.service_process import ServiceProcess, config_with, open_files, served
from tests.ports import quiet_port

NUM_SUBMISSIONS, NUM_QUEUED = (200, 20) if IS_ENDURANCE else (100, 10)
NUM_JOBS = 100 if IS_ENDURANCE else 20
RETURN_S = 60.0
REPORT_ENV = "RAY_metrics_report_interval_ms=1000"  # of the use of the object store; ten seconds by default
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


def make_stages_narrow(config: Path) -> None:
    """Let one request wait for each stage, so that the stages are full while the jobs run."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    for deployment in content["applications"][0]["deployments"]:
        if deployment["name"] not in ("Ingress", "Director"):
            deployment |= {"max_ongoing_requests": 1, "max_queued_requests": 1}
    config.write_text(yaml.safe_dump(content), encoding="utf-8")


@dataclass(frozen=True)
class Running:
    service: ServiceProcess
    data_dir: Path
    metrics_url: str

    def metrics(self) -> str:
        return httpx.get(self.metrics_url, trust_env=False, timeout=20).text


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose stages hold one request and let one wait."""
    folder, metrics_port = tmp_path_factory.mktemp("flood"), quiet_port()
    config = config_with(folder, jobs={"max_queued_jobs": NUM_QUEUED, "max_running_jobs": 8})
    make_stages_narrow(config)
    options, inside = ("--metrics-port", str(metrics_port)), ("env", REPORT_ENV)
    with served(folder / "data", config, options, inside) as service:
        yield Running(service, folder / "data", f"http://127.0.0.1:{metrics_port}/metrics")


def holdings(running: Running) -> Holdings:
    service, data_dir = running.service, running.data_dir
    files = sorted(str(path.relative_to(data_dir)) for path in data_dir.rglob("*") if path.is_file())
    # These stay: the lock, the log, the certificate, the files of the table, which come and go, and cached avatars.
    own = tuple(name for name in files if not name.startswith(_OWN_FILES))
    scraped = running.metrics()
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


@pytest.mark.timeout(400)
def test_create_job_in_a_flood_succeeds_or_returns_429(running: Running, portrait_pair: Pair) -> None:
    caller = Caller(running.service.url)
    caller.result(caller.accepted(portrait_pair))
    with HealthProbe(caller.url) as health:
        started = time.monotonic()
        answers = submit_all(caller, [portrait_pair] * NUM_SUBMISSIONS, num_at_once=24)
        sent_s = time.monotonic() - started
        accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        final = caller.wait(accepted, 240)
        took_s = time.monotonic() - started
    statuses = Counter(answer.status_code for answer in answers)
    p50, p99 = health.percentile(0.5) * 1000, health.percentile(0.99) * 1000
    print(
        f"\nflood: {dict(statuses)} in {sent_s:.1f} s, all accepted done after {took_s:.1f} s; "
        f"healthz p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(health.seconds)}"
    )
    assert set(statuses) == {202, 429}
    assert len(accepted) >= NUM_QUEUED
    assert Counter(job["status"] for job in final.values()) == {"succeeded": len(accepted)}
    for answer in answers:
        if answer.status_code == 429:
            assert 1 <= int(answer.headers["retry-after"]) <= 120
            assert answer.json()["code"] == "over_capacity"
    assert p99 < 1000 * health.bound(1.0)  # a flood of good jobs is no attack; 45 to 165 ms measured
    full = re.findall(
        r'^ray_lipwright_stage_call_seconds_count{.*outcome="full".*} (\S+)$', running.metrics(), re.MULTILINE
    )
    print(f"full stages sent callers away {sum(map(float, full)):.0f} times")
    assert full, "stages were full, and no job failed for it"
    status = caller.request("GET", "/v1/status").json()
    assert (status["queue"]["num_queued"], status["queue"]["num_arriving"]) == (0, 0)
    assert status["is_rate_measured"]


@pytest.mark.timeout(600)
def test_service_after_many_jobs_holds_nothing(running: Running, portrait_pair: Pair) -> None:
    caller = Caller(running.service.url)
    _abuse(caller, portrait_pair, 10)
    before = _returned(running)
    started = time.monotonic()
    _abuse(caller, portrait_pair, NUM_JOBS)
    took_s = time.monotonic() - started
    after = _returned(running, before.num_open_files + MAX_OPENED_FILES)
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
        waiting = [one for one in waiting if _is_unfinished(caller, one)]
    caller.wait([one for one in waiting if _is_unfinished(caller, one)], 200)
    while jobs := caller.request("GET", "/v1/jobs?limit=100").json()["jobs"]:
        for job in jobs:
            caller.request("DELETE", f"/v1/jobs/{job['id']}")


def _is_unfinished(caller: Caller, job_id: str) -> bool:
    return caller.request("GET", f"/v1/jobs/{job_id}").json().get("status") in ("queued", "running")


def _returned(running: Running, max_open_files: float = math.inf) -> Holdings:
    """What is held once the service is idle again; fails if it is not within `RETURN_S`."""
    deadline = time.monotonic() + RETURN_S
    while True:
        held = holdings(running)
        if held.is_idle() and held.num_open_files <= max_open_files:
            return held
        assert time.monotonic() < deadline, f"after {RETURN_S:.0f} s, at most {max_open_files} open files: {held}"
        time.sleep(0.5)
