"""The priority rule over a real socket: the same for every dialect, whatever the key allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from storage.local.api_keys import FileKeyRing
from tests.unit.api.heygem.heygem_client import AUDIO, VIDEO, HeygemClient, heygem_service

Submit = Callable[[HeygemClient], httpx.Response]
FILES = {"audio": ("a.wav", AUDIO)}


def _job(client: HeygemClient, **fields: str) -> httpx.Response:
    return client.http.post("/v1/jobs", files={**FILES, "video": ("face.png", VIDEO)}, data=fields)


def _openai_video(client: HeygemClient) -> httpx.Response:
    return client.http.post("/v1/videos", files={**FILES, "input_reference": ("face.png", VIDEO)})


def _heygem_task(client: HeygemClient) -> httpx.Response:
    body = {"audio_url": "talk.wav", "video_url": "face.mp4", "code": "task-1"}
    return client.http.post("/easy/submit", json=body)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[HeygemClient]:
    with heygem_service(tmp_path) as client:
        yield client


def _use_key(client: HeygemClient, max_priority: int) -> None:
    _, key = FileKeyRing(client.service.files.root).add("a studio", max_priority)
    client.http.headers["X-API-Key"] = key


@pytest.mark.parametrize("submit", [_job, _openai_video, _heygem_task])
@pytest.mark.parametrize(("max_priority", "expected"), [(-1, -1), (0, 0), (1, 0)])
def test_the_default_is_normal_or_the_highest_of_the_key(
    client: HeygemClient, submit: Submit, max_priority: int, expected: int
) -> None:
    _use_key(client, max_priority)
    answer = submit(client)
    assert answer.status_code in (200, 202), answer.text
    assert [request.priority for request in client.service.requests] == [expected]


def test_without_keys_the_default_is_normal(client: HeygemClient) -> None:
    for submit in (_job, _openai_video, _heygem_task):
        submit(client)
    assert [request.priority for request in client.service.requests] == [0, 0, 0]


@pytest.mark.parametrize(("max_priority", "priority"), [(-1, 0), (-1, 1), (0, 1)])
def test_a_priority_above_that_of_the_key_is_forbidden(client: HeygemClient, max_priority: int, priority: int) -> None:
    _use_key(client, max_priority)
    refused = _job(client, priority=str(priority))
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert refused.json()["detail"] == (
        f"priority: expected at most {max_priority} with this API key, found {priority}."
    )
    assert client.service.requests == [] and client.service.uploads() == []


@pytest.mark.parametrize(("max_priority", "priority"), [(-1, -1), (0, 0), (1, 1), (1, -1)])
def test_a_priority_up_to_that_of_the_key_is_kept(client: HeygemClient, max_priority: int, priority: int) -> None:
    _use_key(client, max_priority)
    assert _job(client, priority=str(priority)).status_code == 202
    assert [request.priority for request in client.service.requests] == [priority]


def test_an_explicit_default_is_the_same_request(client: HeygemClient) -> None:
    """The digest of a request is stored, so that it must not depend on whether a default is sent."""
    _job(client)
    _job(client, priority="0")
    first, second = client.service.requests
    assert first.request_digest == second.request_digest
