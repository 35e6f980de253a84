"""Integers that fit into no column, file name or array, in all parameters and fields that the schema has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from config import HeygemConfig
from jobs.model.base import new_id
from tests.unit.api.edge_client import AUDIO, VIDEO, finished
from tests.unit.api_server import MemoryService

HUGE = [str(2**63), "9" * 20, "-" + "9" * 20, "9" * 300, "9" * 5000]


@pytest.fixture
def service(service: MemoryService) -> MemoryService:
    service.looked_at = "face"
    return service


@pytest.fixture
def api_settings() -> dict[str, Any]:
    return {"heygem": HeygemConfig(enabled=True)}


def _kinds(schema: dict[str, Any]) -> set[str]:
    return {part.get("type") for part in (schema, *schema.get("anyOf", ()))}


def _parameters(http: httpx.Client) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of every parameter of the API that is a number."""
    document = http.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if _kinds(parameter.get("schema", {})) & {"integer", "number"}:
                    yield path, method, parameter


def test_parameters_beyond_64_bits_answer_4xx(http: httpx.Client, service: MemoryService) -> None:
    job_id = finished(http, service)
    avatar = http.post("/v1/avatars", files={"video": ("face.mp4", VIDEO)}).json()
    ids = {"job_id": job_id, "video_id": job_id, "avatar_id": avatar["id"]}
    found = list(_parameters(http))
    assert {(path, each["name"]) for path, _, each in found} >= {
        *(("/v1/jobs", name) for name in ("after", "limit", "wait")),
        ("/v1/videos", "limit"),
        ("/v1/avatars/{avatar_id}/people/{number}/thumbnail", "number"),
    }
    for path, method, parameter in found:
        for number in HUGE:
            address = path.format(**{**ids, parameter["name"]: number})
            query = {parameter["name"]: number} if parameter["in"] == "query" else {}
            answer = http.request(method, address, params=query)
            assert answer.status_code == 422, (path, parameter["name"], number[:30], answer.text)


def test_last_event_id_beyond_64_bits_streams_events(http: httpx.Client, service: MemoryService) -> None:
    job_id = finished(http, service)
    for number in HUGE:
        assert http.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": number}).status_code == 200


@pytest.mark.parametrize("field", ["priority", "fps", "music_gain_db", "turns", "size", "crop", "face", "metadata"])
def test_form_numbers_beyond_64_bits_answer_4xx(http: httpx.Client, field: str) -> None:
    for number in HUGE:
        texts = {
            "turns": f'[{{"start": {number}}}]',
            "size": f"{number}x{number}",
            "crop": f"{number}:1",
            "metadata": number,
        }
        files = {"audio": ("a.wav", AUDIO), "video": ("face.mp4", VIDEO)}
        answer = http.post("/v1/jobs", files=files, data={field: texts.get(field, number)})
        assert answer.status_code in (202, 422), (number[:30], answer.text)
        text = f'{{"audio_url": "http://example.com/a.wav", "avatar_id": "{new_id()}", "{field}": {number}}}'
        answer = http.post("/v1/jobs", content=text, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, (number[:30], answer.text)


def test_heygem_codes_beyond_64_bits_get_envelope(http: httpx.Client) -> None:
    for number in HUGE:
        answer = http.post("/easy/submit", content=f'{{"code": {number}, "audio_url": 1, "video_url": {number}}}')
        assert answer.status_code == 200 and answer.json()["success"] is False
        assert http.get("/easy/query", params={"code": number}).status_code == 200
