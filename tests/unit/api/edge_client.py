"""What tests of the API and of the page send, look at, and wait for."""

from __future__ import annotations

from typing import Any

import httpx

from tests.browser import BOUND_S, Visitor
from tests.unit.api_server import MemoryService

AUDIO = b"RIFF" + bytes(5000)
VIDEO = b"mp4!" + bytes(9000)
KEY = {"Idempotency-Key": "k"}
APP = "https://app.example"


def post(http: httpx.Client, audio: bytes = AUDIO, headers: dict[str, str] = KEY, **fields: str) -> httpx.Response:
    files = {"audio": ("a talk.wav", audio), "video": ("face.mp4", VIDEO)}
    return http.post("/v1/jobs", files=files, data=fields, headers=headers)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem: dict[str, Any] = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance", "code", "retryable"}
    assert (problem["status"], problem["code"]) == (status, code), problem
    return problem


def finished(http: httpx.Client, service: MemoryService) -> str:
    """Id of a job that has a video."""
    job_id = str(post(http, headers={}).json()["id"])
    service.finish(job_id)
    return job_id


def wait_until_held(visitor: Visitor, held: list[object]) -> None:
    """Wait until a route handler has appended a request to `held`."""
    for _ in range(round(BOUND_S / 0.02)):
        if held:
            return
        visitor.page.wait_for_timeout(20)
    raise AssertionError("the page sent no such request")
