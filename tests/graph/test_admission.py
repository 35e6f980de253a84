"""Who gets in: once for each idempotency key, before the body is read, and in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from lipwright.storage.local.api_keys import FileKeyRing
from tests.faults.load import Caller, Pair
from tests.faults.service_process import KINDS, ServiceProcess
from tests.graph.inputs import long_wav, raw_upload
from tests.waiting import wait_until

NUM_QUEUED = 4  # as `strict` is configured
SOON_S = 30.0


@pytest.fixture(scope="module")
def long(portrait: Path, speech: Path) -> Pair:
    return Pair(portrait.read_bytes(), long_wav(speech, 180))


@pytest.fixture
def running(caller: Caller, long: Pair) -> Iterator[str]:
    """A job that runs for the whole test."""
    job_id = caller.accepted(long)
    wait_until(lambda: caller.job(job_id)["status"] == "running", SOON_S, 0.02)
    yield job_id
    assert caller.request("DELETE", f"/v1/jobs/{job_id}").json()["status"] == "cancelled"


def queue_of(caller: Caller) -> dict[str, Any]:
    return dict(caller.request("GET", "/v1/status").json()["queue"])


def test_create_job_with_key_of_running_upload_returns_409(caller: Caller, strict: ServiceProcess, short: Pair) -> None:
    with raw_upload(strict.url, short, {"Idempotency-Key": "slow"}) as upload:
        upload.send(1000)
        wait_until(lambda: queue_of(caller)["num_arriving"] == 1, SOON_S, 0.02)
        refused = caller.submit(short, key="slow")
        assert (refused.status_code, refused.json()["code"]) == (409, "request_in_progress")
        upload.send()
        status, _, job = upload.answer()
    assert status == 202
    replayed = caller.submit(short, key="slow")
    assert (replayed.json()["id"], replayed.headers["idempotency-replayed"]) == (job["id"], "true")
    caller.wait([job["id"]], 120)


def test_create_job_with_chunked_body_is_accepted(caller: Caller, strict: ServiceProcess, short: Pair) -> None:
    form = httpx.Request("POST", strict.url, files={"video": ("v", short.video), "audio": ("a", short.audio)})
    body = form.read()
    pieces = (body[start : start + 7000] for start in range(0, len(body), 7000))
    headers = {"Content-Type": form.headers["content-type"]}
    sent = httpx.post(f"{strict.url}/v1/jobs", content=pieces, headers=headers, trust_env=False, timeout=30)
    assert sent.request.headers["transfer-encoding"] == "chunked"
    assert sent.status_code == 202, sent.text
    job_id = sent.json()["id"]
    assert caller.wait([job_id], 120)[job_id]["status"] == "succeeded"


def test_create_job_with_full_queue_returns_429_before_the_body(
    caller: Caller, strict: ServiceProcess, strict_data: Path, first: dict[str, Any], short: Pair, running: str
) -> None:
    assert first["status"] == "succeeded"
    with ExitStack() as stalled:
        for number in range(NUM_QUEUED):
            stalled.enter_context(raw_upload(strict.url, short)).send(100 * number)
        wait_until(lambda: queue_of(caller)["num_arriving"] == NUM_QUEUED, SOON_S, 0.02)
        estimates_s = [_check_status(caller, num_running=1)]
        started = time.monotonic()
        big = {"Content-Length": str(500 * 1024**2)}
        with (
            raw_upload(strict.url, short, big) as declared,
            raw_upload(strict.url, short, {"Transfer-Encoding": "chunked"}) as chunked,
        ):
            declared.send(1000)
            chunked.send_chunk(1000)
            answers = [upload.answer(SOON_S) for upload in (declared, chunked)]
        told_s = time.monotonic() - started
        estimates_s.append(caller.request("GET", "/v1/status").json()["estimated_wait_s"])
    for status, headers, problem in answers:
        assert (status, problem["code"], problem["retryable"]) == (429, "over_capacity", True)
        assert 1 <= int(headers["retry-after"]) <= max(1, math.ceil(max(estimates_s)) + 5)
    freed_s = wait_until(lambda: queue_of(caller)["num_arriving"] == 0, SOON_S, 0.02)
    print(f"\nadmission: 429 after {told_s:.1f} s, retry-after {answers[0][1]['retry-after']} s, freed {freed_s:.2f} s")
    assert told_s < SOON_S
    wait_until(lambda: not list((strict_data / "uploads").iterdir()), SOON_S, 0.02)
    accepted = caller.accepted(short)
    assert caller.request("DELETE", f"/v1/jobs/{accepted}").json()["status"] == "cancelled"


def _check_status(caller: Caller, num_running: int) -> float:
    """Look at every field, and return the expected wait."""
    status = caller.request("GET", "/v1/status").json()
    queue = status["queue"]
    assert (queue["num_running"], queue["max_running"], queue["max_queued"]) == (num_running, 1, NUM_QUEUED)
    assert 0 < queue["num_bytes"] < queue["max_bytes"]
    assert status["is_rate_measured"] and status["seconds_per_second"] > 0
    sound_s = status["estimated_wait_s"] * status["seconds_per_second"]
    assert 0 < sound_s < 200, "what waits, which does not depend on how busy the machine is"
    assert status["free_disk_bytes"] > 0
    assert set(status["replicas"]) == set(KINDS)
    assert all(stage["num_running"] >= 1 and stage["is_healthy"] for stage in status["replicas"].values())
    return float(status["estimated_wait_s"])


@pytest.fixture
def two_keys(strict: ServiceProcess, strict_data: Path) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Clients with a key each, as long as the service has keys at all."""
    keys = FileKeyRing(strict_data)
    made = [keys.add(name) for name in ("flood", "single")]
    clients = [
        httpx.Client(base_url=strict.url, trust_env=False, timeout=30, headers={"Authorization": f"Bearer {secret}"})
        for _, secret in made
    ]
    yield clients[0], clients[1]
    for client, (key, _) in zip(clients, made, strict=True):
        for job in client.get("/v1/jobs").json()["jobs"]:
            client.delete(f"/v1/jobs/{job['id']}")
        client.close()
        keys.revoke(key.id)


def submit(client: httpx.Client, pair: Pair, **fields: str) -> httpx.Response:
    return client.post("/v1/jobs", files={"video": ("v", pair.video), "audio": ("a", pair.audio)}, data=fields)


def test_api_keys_take_turns_and_list_only_their_own_jobs(
    caller: Caller, two_keys: tuple[httpx.Client, httpx.Client], long: Pair, short: Pair
) -> None:
    flood, single = two_keys
    assert caller.submit(short).status_code == 401
    answers = [submit(flood, long) for _ in range(5)]
    # One runs, and one key may hold half of a queue of four.
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429, 429]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers[3:])
    running, *waiting = [answer.json()["id"] for answer in answers[:3]]
    theirs = submit(single, short).json()
    assert theirs["queue_position"] == 0, "the other key's first job is next"
    assert [flood.get(f"/v1/jobs/{job_id}").json()["queue_position"] for job_id in waiting] == [1, 2]

    assert flood.get(f"/v1/jobs/{theirs['id']}").status_code == 404
    assert flood.get(f"/v1/jobs/{theirs['id']}/events").status_code == 404
    assert flood.get(f"/v1/jobs/{theirs['id']}/video").status_code == 404
    assert flood.delete(f"/v1/jobs/{theirs['id']}").status_code == 404
    assert [job["id"] for job in single.get("/v1/jobs").json()["jobs"]] == [theirs["id"]]
    refused = submit(single, short, priority="1")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    later = submit(single, short, priority="-1").json()
    assert later["queue_position"] == 3, "after everybody else's"

    flood.delete(f"/v1/jobs/{running}")
    wait_until(lambda: single.get(f"/v1/jobs/{theirs['id']}").json()["status"] == "succeeded", 120, 0.02)
    # It, and not the flood's next one, had the place that became free.
    started = [flood.get(f"/v1/jobs/{job_id}").json()["started_at"] for job_id in waiting]
    theirs = single.get(f"/v1/jobs/{theirs['id']}").json()
    assert all(at is None or at > theirs["started_at"] for at in started)


def test_stored_bytes_limit_counts_uploads_at_once(
    two_keys: tuple[httpx.Client, httpx.Client], strict_data: Path, sample_portrait: Path
) -> None:
    _, client = two_keys
    keys, picture = FileKeyRing(strict_data), sample_portrait.read_bytes()
    (key,) = (each for each in keys.list() if each.name == "single")
    keys.update(key.id, None, {"stored_bytes": round(1.5 * len(picture))})
    answers = [client.post("/v1/backgrounds", files={"background_file": ("b.jpg", picture)}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 429]
    assert "The limit stored_bytes of this API key" in answers[1].json()["detail"]
    client.delete(f"/v1/backgrounds/{answers[0].json()['id']}")
