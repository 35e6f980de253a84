"""Fields of forms: defaults, hostile file names, and comparisons for idempotency keys."""

from __future__ import annotations

import json
import re
import socket
import time
import unicodedata
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from api.forms import form_receiver
from jobs.model.avatar_settings import AvatarSettings
from storage.local.api_keys import FileKeyRing
from tests.unit.api.edge_client import AUDIO, KEY, VIDEO, post, problem
from tests.unit.api_server import MemoryService, serving

NUM_SLOW = form_receiver._MAX_COMPARISONS


def test_one_key_compares_a_few_bodies_at_a_time(tmp_path: Path) -> None:
    (_, first), (_, second) = (FileKeyRing(tmp_path).add(name) for name in ("one", "two"))
    with (
        serving(MemoryService(tmp_path)) as url,
        ExitStack() as stack,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as http,
    ):
        jobs = {key: post(http, headers=_headers(key)).json()["id"] for key in (first, second)}
        slow = [stack.enter_context(_slow_repeat(url, first)) for _ in range(NUM_SLOW)]
        deadline = time.monotonic() + 20
        while (repeated := post(http, headers=_headers(first))).status_code == 202:
            assert time.monotonic() < deadline, "bodies of one key are compared without a bound"
            slow.append(stack.enter_context(_slow_repeat(url, first)))  # this request may have taken a slot from one
        assert int(repeated.headers["retry-after"]) >= 1
        problem(repeated, 503, "busy")
        again = post(http, headers=_headers(second))
        assert (again.status_code, again.json()["id"]) == (202, jobs[second])
        assert post(http, headers={"X-API-Key": first}).status_code == 202, "a new job of the same key"
        for line in slow:
            line.close()
        while (again := post(http, headers=_headers(first))).status_code == 503:
            assert time.monotonic() < deadline, "the slots of broken connections stay taken"
        assert (again.status_code, again.json()["id"]) == (202, jobs[first])


def _headers(key: str) -> dict[str, str]:
    return {**KEY, "X-API-Key": key}


def _slow_repeat(url: str, key: str) -> socket.socket:
    """A connection that announces the body of a repeated request and sends a part of it."""
    line = socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=30)
    line.sendall(
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nIdempotency-Key: k\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 200000\r\n\r\n--b\r\n".encode()
    )
    return line


NAMES = [
    *(
        "../../../../tmp/eval_pwned.mp4",
        "..\\..\\eval_pwned.mp4",
        "/tmp/eval_pwned.mp4",
        "a\x00b.mp4",
        "лицо 脸 😀.mp4",
    ),
    *("\u202egpj.4pm", "x" * 4000 + ".mp4", "a'; touch /tmp/eval_pwned; '.mp4", "$(touch /tmp/eval_pwned).mp4"),
    *("`touch /tmp/eval_pwned`.mp4", "-y.mp4", "file:x.mp4", "concat:a|b.mp4", "%2e%2e%2f%2e%2e%2feval_pwned.mp4"),
    *("a\r\nSet-Cookie: x=1.mp4", 'a"b.mp4', "<img src=x onerror=alert(1)>.mp4", "", ".", "..", "CON", "face_%05d.mp4"),
    *("a\nb.mp4", " .mp4", "face.mp4/", "\ud83d.mp4", "e\u0301.mp4", "api_keys.json", "../jobs.sqlite3"),
]


def _body(name: bytes) -> bytes:
    """A form as it comes over the wire, the name neither checked nor escaped."""
    head = b'--x\r\ncontent-disposition: form-data; name="video"; filename="' + name + b'"\r\n\r\n'
    return head + b"mp4!" * 100 + b"\r\n--x--\r\n"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("escape", [False, True])
def test_a_name_is_a_harmless_label(tmp_path: Path, name: str, escape: bool) -> None:
    sent = re.sub('[\r\n"]', lambda char: f"%{ord(char[0]):02X}", name) if escape else name  # as browsers do
    service = MemoryService(tmp_path / "data")
    with serving(service) as url:
        answer = httpx.post(
            f"{url}/v1/avatars",
            content=_body(sent.encode("utf-8", "surrogatepass")),
            headers={"content-type": "multipart/form-data; boundary=x"},
            timeout=60,
            trust_env=False,
        )
    assert "set-cookie" not in answer.headers
    assert answer.status_code in (202, 422), answer.text
    if answer.status_code == 202:
        label = answer.json()["label"]
        assert not set(label) & set("/\\<>\"'`$|;%:")
        assert not [char for char in label if unicodedata.category(char).startswith("C")]
        assert len(label) <= 120
    folders = {path.relative_to(tmp_path / "data") for path in (tmp_path / "data").rglob("*") if path.is_file()}
    named = {
        path for path in folders if not re.fullmatch(r"avatars/[0-9a-f]{32}/source|jobs\.sqlite3.*|\.\w+", str(path))
    }
    assert named == set()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


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
