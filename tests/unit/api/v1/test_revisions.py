"""`POST /v1/jobs/{id}/revisions` over real sockets."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from errors import ReplicaLostError
from jobs.model.record import JobStatus
from tests.unit.api_server import MemoryService

TURNS = '[{"start": 0, "text": "One."}, {"start": 2, "text": "Two."}]'


def _submitted(http: httpx.Client) -> str:
    files = {"video": ("face.png", b"\x89PNG\r\n\x1a\n" + bytes(64))}
    response = http.post("/v1/jobs", files=files, data={"turns": TURNS})
    return str(response.raise_for_status().json()["id"])


def _revise(http: httpx.Client, job_id: str, **changes: Any) -> httpx.Response:
    return http.post(f"/v1/jobs/{job_id}/revisions", json=changes)


def test_revise_job_answers_202_with_the_new_job(service: MemoryService, http: httpx.Client) -> None:
    job_id = _submitted(http)
    service.finish(job_id)
    response = _revise(http, job_id, settings={"loudness_lufs": -16})
    revised = response.json()
    assert response.status_code == 202
    assert (revised["revision_of"], revised["status"]) == (job_id, "queued")
    assert revised["options"]["loudness_lufs"] == -16
    assert response.headers["location"] == f"/v1/jobs/{revised['id']}"
    assert http.get(f"/v1/jobs/{job_id}").json()["status"] == "succeeded"


@pytest.mark.parametrize("status", ["queued", "running", "review", "failed", "cancelled"])
def test_revise_job_that_has_not_succeeded_answers_409(service: MemoryService, http: httpx.Client, status: str) -> None:
    job_id = _submitted(http)
    if status == "failed":
        service.fail(job_id, ReplicaLostError("broken"))
    elif status != "queued":
        service.table.update_job(job_id, status=JobStatus(status))
    response = _revise(http, job_id, removed_turns=[0])
    assert response.status_code == 409 and status in response.json()["detail"]


def test_revise_unknown_job_answers_404(service: MemoryService, http: httpx.Client) -> None:
    assert _revise(http, "0" * 32, removed_turns=[0]).status_code == 404
    job_id = _submitted(http)
    service.finish(job_id)
    http.delete(f"/v1/jobs/{job_id}")
    assert _revise(http, job_id, removed_turns=[0]).status_code == 404


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "send turns, removed_turns, added_turns, settings or review=true"),
        ({"turns": [{"text": "x"}]}, "number"),
        ({"turns": [{"number": -1, "text": "x"}]}, "number"),
        ({"turns": [{"number": 0, "txt": "x"}]}, "txt"),
        ({"turns": [{"number": 0}]}, "send a field to change"),
        ({"added_turns": [{"start": 1}]}, "text"),
        ({"settings": {"loudness_lufs": 3}}, "settings.loudness_lufs"),
        ({"settings": {"subtitles_output": "aside"}}, "settings.subtitles_output"),
    ],
)
def test_revise_job_invalid_body_answers_422(
    service: MemoryService, http: httpx.Client, changes: dict[str, Any], message: str
) -> None:
    job_id = _submitted(http)
    service.finish(job_id)
    response = _revise(http, job_id, **changes)
    assert response.status_code == 422 and message in response.json()["detail"]
