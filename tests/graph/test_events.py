"""Events of a job when the Director dies, its webhook, and its end after the time that finished jobs are kept."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.load import FINAL, Caller, Pair
from tests.faults.service_process import ServiceProcess
from tests.graph.inputs import long_wav
from tests.graph.receiver import Receiver, receiving
from tests.waiting import wait_until

FOLLOW_S = 150.0


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    version: int
    name: str
    data: dict[str, Any]

    @property
    def is_final(self) -> bool:
        return self.name == "job" and self.data["status"] in FINAL


def events(url: str, job_id: str, seen: int | None = None) -> Iterator[Event]:
    """The events of one connection; it may break."""
    headers = {} if seen is None else {"Last-Event-ID": str(seen)}
    path = f"{url}/v1/jobs/{job_id}/events"
    with (
        suppress(httpx.TransportError),
        httpx.stream("GET", path, headers=headers, timeout=FOLLOW_S, trust_env=False) as answer,
    ):
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "event" in fields:
                yield Event(int(fields.get("id", -1)), fields["event"], json.loads(fields["data"]))
                fields = {}


def test_a_dead_director_costs_no_event_that_matters(
    caller: Caller, strict: ServiceProcess, portrait: Path, speech: Path
) -> None:
    job_id = caller.accepted(Pair(portrait.read_bytes(), long_wav(speech, 12)))
    (director,) = strict.replicas("Director")
    heard: list[Event] = []
    num_lines, deadline = 0, time.monotonic() + FOLLOW_S
    killed_at = 0
    while not (heard and heard[-1].is_final):
        assert time.monotonic() < deadline, heard[-1:]
        num_lines += 1
        for event in events(strict.url, job_id, seen=heard[-1].version if heard else None):
            if event.name != "job":
                continue  # `problem`: the stream ends, and we come again
            heard.append(event)
            if not killed_at and event.data["num_frames_done"] > 0:
                director.kill()
                killed_at = event.version
        time.sleep(0.2)
    print(f"\nevents: {len(heard)} over {num_lines} connections, Director killed at version {killed_at}")
    assert killed_at
    versions = [event.version for event in heard]
    assert versions == sorted(set(versions)), "none twice, none out of order"
    assert heard[-1].data["status"] == "succeeded", heard[-1].data["error"]
    assert heard[-1].data == caller.job(job_id)
    progress = [event.data["progress"] for event in heard]
    assert max(progress[:-1]) < 1.0 == progress[-1]
    assert not director.is_running()


@pytest.fixture(scope="module")
def secret(strict: ServiceProcess, strict_data: Path, repo_root: Path) -> str:
    """What `lipwright keys webhook-secret` tells the owner of the receiver."""
    command = [sys.executable, "-m", "lipwright.cli", "keys", "webhook-secret", "--data-dir", str(strict_data)]
    return subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def flaky() -> Iterator[Receiver]:
    """A receiver that fails at first."""
    with receiving(statuses=(500,)) as receiver:
        yield receiver


def callback_of(caller: Caller, job_id: str) -> dict[str, Any]:
    return dict(caller.job(job_id)["callback"])


def wait_delivered(caller: Caller, job_id: str) -> dict[str, Any]:
    wait_until(lambda: callback_of(caller, job_id)["status"] == "delivered", 60)
    return callback_of(caller, job_id)


def test_it_is_signed_and_tried_again(caller: Caller, short: Pair, secret: str, flaky: Receiver) -> None:
    accepted = caller.submit(short, callback_url=f"{flaky.url}/hook?shop=1").json()
    assert accepted["callback"] is None, "reported when the job has ended"
    job = caller.wait([accepted["id"]], 120)[accepted["id"]]
    ended = time.monotonic()
    (refused,) = flaky.wait(1, 60)
    told_s = time.monotonic() - ended
    wait_until(lambda: callback_of(caller, job["id"])["attempts"], 60)
    callback = callback_of(caller, job["id"])
    if callback["attempts"] == 1:  # else this test stood still until the next try was over
        assert callback["status"] == "pending"
        assert "500" in callback["error"]
    again = flaky.wait(2, 60)[1]
    print(f"\nwebhook: first {told_s:.1f} s after the end, again {again.received_at - refused.received_at:.1f} s later")
    assert refused.path == again.path == "/hook?shop=1"
    assert refused.headers["webhook-id"] == again.headers["webhook-id"]
    assert refused.body == again.body or refused.event["type"] == again.event["type"]
    assert refused.is_signed_with(secret) and again.is_signed_with(secret)
    assert not again.is_signed_with(f"whsec_{'A' * 43}=")
    assert again.event["type"] == "job.succeeded"
    data = again.event["data"]
    assert (data["id"], data["status"], data["finished_at"]) == (job["id"], "succeeded", job["finished_at"])
    delivered = wait_delivered(caller, job["id"])
    assert (delivered["attempts"], delivered["error"]) == (2, None)
    assert len(flaky.hooks) == 2


@pytest.mark.parametrize(
    "callback", ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://10.0.0.1/hook", "ftp://example.org/"]
)
def test_a_private_address_is_refused_on_submission(client: httpx.Client, short: Pair, callback: str) -> None:
    with receiving() as receiver:
        callback_url = callback.format(port=receiver.url.rsplit(":", 1)[1])
        files = {"video": ("v", short.video), "audio": ("a", short.audio)}
        num_jobs = len(client.get("/v1/jobs").json()["jobs"])
        answer = client.post("/v1/jobs", files=files, data={"callback_url": callback_url})
        assert (answer.status_code, answer.json()["code"]) == (422, "url_refused"), answer.text
        assert len(client.get("/v1/jobs").json()["jobs"]) == num_jobs
        assert not receiver.hooks


# Last of those that use `strict`: by then the time is nearly over.
def test_retention_removes_finished_jobs_with_their_files(
    caller: Caller, strict_data: Path, strict_keep_s: float, first: dict[str, Any]
) -> None:
    path = f"/v1/jobs/{first['id']}"
    kept_s = wait_until(lambda: caller.request("GET", path).status_code == 404, 2 * strict_keep_s)
    print(f"\nretention: gone after {kept_s:.1f} s more")
    assert caller.request("GET", f"{path}/video").status_code == 404
    assert not (strict_data / "jobs" / first["id"]).exists()
