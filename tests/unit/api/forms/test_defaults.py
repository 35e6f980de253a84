"""Defaults that the OpenAPI document states, sent as generated clients do: they change nothing."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from jobs.model.avatar_settings import AvatarSettings
from storage.local.api_keys import FileKeyRing
from tests.unit.api.edge_client import AUDIO, VIDEO, post, problem
from tests.unit.api_server import MemoryService

TURN = {"start": 0, "end": 1, "audio": "audio"}
FILES = {"audio": ("a.wav", AUDIO), "video": ("face.mp4", VIDEO)}


def _defaults(http: httpx.Client, path: str, media_type: str, method: str = "post") -> dict[str, Any]:
    schema = http.get("/openapi.json").json()
    body = schema["paths"][path][method]["requestBody"]["content"][media_type]["schema"]
    form = schema["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    return {name: field["default"] for name, field in form["properties"].items() if "default" in field}


def _texts(fields: dict[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}


@pytest.mark.parametrize(("path", "face"), [("/v1/jobs", "video"), ("/v1/videos", "input_reference")])
def test_post_form_schema_defaults_equal_no_fields(
    http: httpx.Client, service: MemoryService, path: str, face: str
) -> None:
    defaults = _defaults(http, path, "multipart/form-data")
    assert {"background_loop", "matte", "loop", "format"} <= defaults.keys()
    files = {"audio": ("a.wav", AUDIO), face: ("face.mp4", VIDEO)}
    key = {"Idempotency-Key": "k"}
    sent = http.post(path, files=files, data=_texts(defaults), headers=key).raise_for_status().json()
    assert http.post(path, files=files, headers=key).raise_for_status().json()["id"] == sent["id"]
    assert service.requests[0].spec.model_fields_set.isdisjoint(AvatarSettings.model_fields)


def test_post_json_schema_defaults_accepted(http: httpx.Client, service: MemoryService) -> None:
    defaults = _defaults(http, "/v1/jobs", "application/json")
    assert defaults["visible_label"] is False
    files = {"audio": "data:audio/wav;base64,UklGRg==", "video": "data:video/mp4;base64,bXA0IQ=="}
    assert http.post("/v1/jobs", json=defaults | files).status_code == 202
    assert http.post("/v1/jobs", json={**files, "visible_label": True}).status_code == 202
    assert [request.options.visible_label for request in service.requests] == [False, True]


def test_post_turns_schema_defaults_accepted(http: httpx.Client, service: MemoryService) -> None:
    defaults = _defaults(http, "/v1/jobs", "multipart/form-data")
    fields = {**_texts(defaults), "turns": json.dumps([TURN])}
    assert http.post("/v1/jobs", files=FILES, data=fields).status_code == 202
    assert service.requests[0].options.loop == "source"
    conflict = post(http, headers={}, loop="hold", turns=json.dumps([TURN]))
    assert "loop" in problem(conflict, 422, "option_invalid")["detail"]


def test_post_job_schema_defaults_low_priority_key_accepted(http: httpx.Client, service: MemoryService) -> None:
    http.headers["X-API-Key"] = FileKeyRing(service.files.root).add("a studio", -1)[1]
    defaults = _texts(_defaults(http, "/v1/jobs", "multipart/form-data"))
    assert http.post("/v1/jobs", files=FILES, data=defaults).status_code == 202
    assert service.requests[0].priority == -1
    problem(post(http, headers={}, priority="0"), 403, "forbidden")


def test_post_avatar_schema_defaults_accepted(http: httpx.Client) -> None:
    files = {"video": ("face.mp4", VIDEO)}
    defaults = _texts(_defaults(http, "/v1/avatars", "multipart/form-data"))
    assert http.post("/v1/avatars", files=files, data=defaults).status_code == 202
    assert "matte needs" in http.post("/v1/avatars", files=files, data={"matte": "person"}).json()["detail"]


def test_patch_avatar_default_value_replaces_setting(http: httpx.Client) -> None:
    fields = {"background": "blur", "matte": "person"}
    avatar = http.post("/v1/avatars", files={"video": ("face.mp4", VIDEO)}, data=fields).raise_for_status().json()
    assert _defaults(http, "/v1/avatars/{avatar_id}", "multipart/form-data", "patch") == {}
    changed = http.patch(avatar["links"]["self"], json={"matte": "auto"}).raise_for_status().json()
    assert (avatar["matte"], changed["matte"]) == ("person", "auto")


def test_post_form_empty_parts_repeat_name_accepted(http: httpx.Client) -> None:
    empty: list[tuple[str, tuple[str | None, bytes]]] = [("audio", ("", b"")), ("audio", (None, b""))]
    parts = [*empty, *FILES.items(), *empty, ("text", (None, b"")), ("text", (None, b""))]
    assert http.post("/v1/jobs", files=parts).status_code == 202
    twice = [("audio", ("a.wav", AUDIO)), ("audio", ("b.wav", AUDIO)), ("video", ("face.mp4", VIDEO))]
    assert "sent more than once" in problem(http.post("/v1/jobs", files=twice), 422, "option_invalid")["detail"]
