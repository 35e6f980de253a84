"""A job as a form, problems as they are answered: what the tests of HTTP's edges send and look at."""

from __future__ import annotations

from typing import Any

import httpx

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
    assert problem["code"] == code
    return problem


def finished(http: httpx.Client, service: MemoryService) -> str:
    """Id of a job that has a video."""
    job_id = str(post(http, headers={}).json()["id"])
    service.finish(job_id)
    return job_id
