"""Clients that hold connections as long as they can; good callers with another API key are served meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from lipwright.storage.local.api_keys import FileKeyRing
from tests.faults.attacker import Attack, Seen, attacking
from tests.faults.health_probe import NO_ANSWER_S, HealthProbe
from tests.faults.load import IS_ENDURANCE, Caller, Pair
from tests.faults.service_process import ServiceProcess, served
from tests.http2_streams import dripping, unread_streams

HEALTHY_S = 0.25
"""p99 of /healthz and of another key's /v1/status that is promised during an attack."""
ACCEPTED_S = 3.0
"""A good job is accepted within so long on a machine that does nothing else."""
ATTACK_S = 60.0 if IS_ENDURANCE else 5.0
NUM_GOOD_JOBS = 5
SOURCE_BYTES = 120 << 20
MAX_SPILLED_BYTES = 64 << 20
ADDRESSES = tuple(f"127.0.0.{number}" for number in range(2, 7))


@dataclass
class Meanwhile:
    """What a well-behaved caller and a health check see during an attack."""

    health: HealthProbe
    seen: Seen
    accepted_s: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    num_spilled_bytes: int = 0

    def check(self, what: str) -> None:
        """Print the figures, and assert what is promised; times only in the long form, on a machine of its own."""
        p50, p99 = (1000 * self.health.percentile(share) for share in (0.5, 0.99))
        status_p99 = 1000 * self.health.percentile(0.99, self.health.status_seconds)
        print(
            f"\n{what}: healthz p50 {p50:.0f} ms, p99 {p99:.0f} ms of {len(self.health.seconds)}, jobs accepted in "
            f"{', '.join(f'{took_s:.2f}' for took_s in self.accepted_s)} s {self.refusals}, "
            f"status p99 {status_p99:.0f} ms, spilled "
            f"{self.num_spilled_bytes >> 20} MiB, bystander {1000 * max(self.health.bystander_seconds):.0f} ms; "
            f"{self.seen}"
        )
        assert not self.refusals and status_p99 < 1000 * NO_ANSWER_S
        if not IS_ENDURANCE:
            return
        assert max(p99, status_p99) < 1000 * self.health.bound(HEALTHY_S)
        assert max(self.accepted_s) < self.health.bound(ACCEPTED_S)


class Guarded:
    """A service with two API keys, and what their owners do."""

    def __init__(self, service: ServiceProcess, keys: tuple[str, str], pair: Pair) -> None:
        self.service = service
        self.attacker, self.good = keys
        self._pair = pair
        self._session = _session_folder(service)

    def render(self, key: str, pair: Pair | None = None) -> str:
        """Identifier of a job that has succeeded."""
        job_id = str(self.submit(key, pair).raise_for_status().json()["id"])
        final = Caller(self.service.url, api_key=key).wait([job_id], 200)
        assert final[job_id]["status"] == "succeeded"
        return job_id

    def submit(self, key: str, pair: Pair | None = None, headers: dict[str, str] | None = None) -> httpx.Response:
        files = {"video": ("face.mp4", (pair or self._pair).video), "audio": ("speech.wav", (pair or self._pair).audio)}
        headers = {"Authorization": f"Bearer {key}", **(headers or {})}
        return httpx.post(f"{self.service.url}/v1/jobs", files=files, headers=headers, timeout=60, trust_env=False)

    def attack(self, attack: Attack, duration_s: float = ATTACK_S) -> Meanwhile:
        """Attack for so long, with good jobs meanwhile, which have to succeed."""
        with attacking(attack) as seen, HealthProbe(self.service.url, self.good) as health:
            meanwhile, jobs = Meanwhile(health, seen), []
            for _ in range(NUM_GOOD_JOBS):
                started = time.monotonic()
                try:
                    answer = self.submit(self.good)
                    jobs += [answer.json()["id"]] if answer.status_code == 202 else []
                    meanwhile.refusals += [answer.text] if answer.status_code != 202 else []
                except httpx.HTTPError as error:
                    meanwhile.refusals.append(repr(error))
                meanwhile.accepted_s.append(time.monotonic() - started)
                meanwhile.num_spilled_bytes = max(meanwhile.num_spilled_bytes, self._spilled_bytes())
                time.sleep(max(0.0, duration_s / NUM_GOOD_JOBS - (time.monotonic() - started)))
        final = Caller(self.service.url, api_key=self.good).wait(jobs, 200)
        assert {job["status"] for job in final.values()} <= {"succeeded"}
        return meanwhile

    def _spilled_bytes(self) -> int:
        """Bytes of the objects that Ray has spilled to the disk."""
        spilled = self._session.rglob("ray_spilled_objects*/*")
        return sum(path.stat().st_size for path in spilled if path.exists())


def _session_folder(service: ServiceProcess) -> Path:
    """Ray's folder for the service."""
    for process in service.processes():
        with suppress(psutil.NoSuchProcess):
            for argument in process.cmdline():
                if argument.startswith("--raylet_socket_name="):
                    return Path(argument.partition("=")[2]).parents[1]
    raise AssertionError("no raylet runs")


@pytest.fixture(scope="module")
def guarded(service: ServiceProcess, data_dir: Path, portrait_pair: Pair) -> Iterator[Guarded]:
    """The service of all hostile clients, which has API keys while these tests run."""
    with _with_keys(service, data_dir, portrait_pair) as guarded:
        yield guarded


@contextmanager
def _with_keys(service: ServiceProcess, data_dir: Path, pair: Pair) -> Iterator[Guarded]:
    keys = FileKeyRing(data_dir)
    attacker, good = (keys.add(name)[1] for name in ("attacker", "good"))
    guarded = Guarded(service, (attacker, good), pair)
    for key in (attacker, good):  # the attack measures a service that has nothing else to do
        guarded.render(key)
    yield guarded
    for each in keys.list():
        keys.revoke(each.id)


@contextmanager
def _own_service(
    folder: Path, pair: Pair, options: tuple[str, ...] = (), inside: tuple[str, ...] = ()
) -> Iterator[Guarded]:
    with (
        served(folder / "data", None, options, inside) as service,
        _with_keys(service, folder / "data", pair) as guarded,
    ):
        yield guarded


@pytest.mark.endurance
@pytest.mark.timeout(600)
def test_slow_readers(tmp_path: Path, sample_pair: Pair, portrait_pair: Pair) -> None:
    padding = SOURCE_BYTES.to_bytes(4, "big") + b"free" + bytes(SOURCE_BYTES - 8)
    with _own_service(tmp_path, portrait_pair, ("--object-store-memory", "200000000")) as guarded:
        job_id = guarded.render(guarded.attacker, Pair(sample_pair.video + padding, sample_pair.audio))
        path, key = f"/v1/jobs/{job_id}/source", guarded.attacker
        request = f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\r\n"
        attack = Attack(guarded.service.url, request, num=66, reads_per_s=20_000)
        meanwhile = guarded.attack(attack, 4 * ATTACK_S)
    meanwhile.check("66 slow readers")
    assert meanwhile.num_spilled_bytes < MAX_SPILLED_BYTES
    # The clients see the end minutes later, when they have read what was sent before it.
    log = (tmp_path / "data" / "service.log").read_text(encoding="utf-8")
    assert log.count("limits.min_download_bytes_per_s") >= 66


@pytest.mark.timeout(600)
def test_half_open_requests(guarded: Guarded) -> None:
    attack = Attack(guarded.service.url, "GET /v1/jobs HTTP/1.1\r\nHost: ", num=2060, sources=ADDRESSES)
    guarded.attack(attack).check("2,060 half-open requests")


@pytest.mark.timeout(600)
def test_unread_http2_streams(guarded: Guarded) -> None:
    port = urlsplit(guarded.service.url).port or 0
    with unread_streams(port, "POST", "/v1/jobs", 90) as streams, dripping(streams, every_s=5):
        guarded.attack(Attack(guarded.service.url, "", num=1)).check("90 HTTP/2 streams without a key")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "sources", [ADDRESSES, pytest.param(("127.0.0.1",), marks=pytest.mark.endurance)], ids=["five", "one"]
)
def test_bodies_without_a_key(guarded: Guarded, sources: tuple[str, ...]) -> None:
    attack = Attack(guarded.service.url, _upload(), num=600, sources=sources, drip="a" * 100, drip_s=2)
    guarded.attack(attack).check(f"600 bodies without a key from {len(sources)} addresses")


@pytest.mark.timeout(600)
def test_bodies_that_repeat_an_idempotency_key(guarded: Guarded) -> None:
    guarded.submit(guarded.attacker, headers={"Idempotency-Key": "one"}).raise_for_status()
    fields = f"Authorization: Bearer {guarded.attacker}\r\nIdempotency-Key: one\r\n"
    attack = Attack(guarded.service.url, _upload(fields), num=262, drip="a" * 18_000, drip_s=1)
    guarded.attack(attack).check("262 bodies that repeat an Idempotency-Key")


@pytest.mark.endurance
@pytest.mark.timeout(600)
def test_few_open_files(tmp_path: Path, portrait_pair: Pair) -> None:
    with _own_service(tmp_path, portrait_pair, inside=("prlimit", "--nofile=256:256")) as guarded:
        for sent in ("", "GET /v1/jobs HTTP/1.1\r\nHost: "):
            attack = Attack(guarded.service.url, sent, num=300, sources=ADDRESSES[:1])
            guarded.attack(attack).check(f"300 connections of 256 files, {len(sent)} bytes sent")


def _upload(fields: str = "") -> str:
    """The beginning of a submission."""
    return (
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: 20000000\r\n"
        "Content-Type: multipart/form-data; boundary=xx\r\n\r\n"
        '--xx\r\nContent-Disposition: form-data; name="video"; filename="v"\r\n\r\n'
    )
