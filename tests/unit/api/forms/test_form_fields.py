"""Fields of forms and JSON bodies: defaults, hostile file names, files in text, and idempotency keys."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
import tracemalloc
import unicodedata
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from lipwright.api.forms import form_receiver
from lipwright.api.forms.json_body import JsonBody
from lipwright.config import NetworkConfig
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.spec import MAX_TEXT_CHARS
from lipwright.jobs.requests import check_same_request
from lipwright.storage.file_keys import job_file_key, upload_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.local.api_keys import FileKeyRing
from tests.unit.api.edge_client import AUDIO, KEY, VIDEO, post, problem
from tests.unit.api_server import MAX_UPLOAD_BYTES, MemoryService, api_client
from tests.unit.job_records import job_record
from tests.unit.net.web import answer
from tests.unit.net.web import serving as web_serving
from tests.unit.on_disk import on_disk

NUM_SLOW = form_receiver._MAX_COMPARISONS


def test_one_key_compares_a_few_bodies_at_a_time(tmp_path: Path) -> None:
    (_, first), (_, second) = (FileKeyRing(tmp_path).add(name) for name in ("one", "two"))
    with api_client(MemoryService(tmp_path)) as http, ExitStack() as stack:
        url = str(http.base_url)
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
    *("../../../../tmp/eval_pwned.mp4", "..\\..\\eval_pwned.mp4", "/tmp/eval_pwned.mp4", "a\x00b.mp4", "лицо 脸.mp4"),
    *("\u202egpj.4pm", "x" * 4000 + ".mp4", "a'; touch /tmp/eval_pwned; '.mp4", "$(touch /tmp/eval_pwned).mp4"),
    *("`touch /tmp/eval_pwned`.mp4", "-y.mp4", "file:x.mp4", "concat:a|b.mp4", "%2e%2e%2f%2e%2e%2feval_pwned.mp4"),
    *("a\r\nSet-Cookie: x=1.mp4", 'a"b.mp4', "<img src=x onerror=alert(1)>.mp4", "", ".", "..", "CON", "face_%05d.mp4"),
    *("a\nb.mp4", " .mp4", "face.mp4/", "\ud83d.mp4", "e\u0301😀.mp4", "api_keys.json", "../jobs.sqlite3"),
]


def _body(name: bytes) -> bytes:
    """A form as it comes over the wire, the name neither checked nor escaped."""
    head = b'--x\r\ncontent-disposition: form-data; name="video"; filename="' + name + b'"\r\n\r\n'
    return head + b"mp4!" * 100 + b"\r\n--x--\r\n"


@pytest.mark.parametrize("escape", [False, True])
def test_a_name_is_a_harmless_label(tmp_path: Path, escape: bool) -> None:
    form = {"content-type": "multipart/form-data; boundary=x"}
    with api_client(MemoryService(tmp_path / "data")) as http:
        for name in NAMES:
            sent = re.sub('[\r\n"]', lambda char: f"%{ord(char[0]):02X}", name) if escape else name  # as browsers do
            answer = http.post("/v1/avatars", content=_body(sent.encode("utf-8", "surrogatepass")), headers=form)
            assert "set-cookie" not in answer.headers
            assert answer.status_code in (202, 422), answer.text
            if answer.status_code == 202:
                label = answer.json()["label"]
                assert not set(label) & set("/\\<>\"'`$|;%:")
                assert not [char for char in label if unicodedata.category(char).startswith("C")]
                assert len(label) <= 120
    files = [path.relative_to(tmp_path / "data") for path in (tmp_path / "data").rglob("*") if path.is_file()]
    ours = re.compile(r"avatars/[0-9a-f]{32}/source|jobs\.sqlite3.*|\.\w+")
    assert [path for path in files if not ours.fullmatch(str(path))] == []
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
def test_form_schema_defaults_equal_no_fields(http: httpx.Client, service: MemoryService, path: str, face: str) -> None:
    defaults = _defaults(http, path, "multipart/form-data")
    assert {"background_loop", "matte", "loop", "format"} <= defaults.keys()
    files = {"audio": ("a.wav", AUDIO), face: ("face.mp4", VIDEO)}
    key = {"Idempotency-Key": "k"}
    sent = http.post(path, files=files, data=_texts(defaults), headers=key).raise_for_status().json()
    assert http.post(path, files=files, headers=key).raise_for_status().json()["id"] == sent["id"]
    assert service.requests[0].spec.model_fields_set.isdisjoint(AvatarSettings.model_fields)


def test_form_text_outside_ascii_is_limited_in_characters(http: httpx.Client) -> None:
    for path, face, speech in (("/v1/jobs", "video", "text"), ("/v1/videos", "input_reference", "prompt")):
        answers = [
            http.post(path, files={face: VIDEO}, data={speech: "你" * num_chars})
            for num_chars in (MAX_TEXT_CHARS, MAX_TEXT_CHARS + 1)
        ]
        assert [answer.is_success for answer in answers] == [True, False], answers[0].text
        assert f"{speech}: must have at most {MAX_TEXT_CHARS} characters" in answers[1].text


def test_schema_defaults_are_accepted_in_any_body(http: httpx.Client, service: MemoryService) -> None:
    in_json = _defaults(http, "/v1/jobs", "application/json")
    files = {"audio": "data:audio/wav;base64,UklGRg==", "video": "data:video/mp4;base64,bXA0IQ=="}
    assert http.post("/v1/jobs", json=in_json | files).status_code == 202
    assert http.post("/v1/jobs", json={**files, "visible_label": True}).status_code == 202
    assert [request.options.visible_label for request in service.requests] == [False, True]
    in_form = _texts(_defaults(http, "/v1/jobs", "multipart/form-data"))
    turns = json.dumps([TURN])
    assert http.post("/v1/jobs", files=FILES, data={**in_form, "turns": turns}).status_code == 202
    assert service.requests[-1].options.loop == "source"
    conflict = post(http, headers={}, loop="hold", turns=turns)
    assert "loop" in problem(conflict, 422, "option_invalid")["detail"]
    video, of_avatar = {"video": FILES["video"]}, _texts(_defaults(http, "/v1/avatars", "multipart/form-data"))
    assert http.post("/v1/avatars", files=video, data=of_avatar).status_code == 202
    assert "matte needs" in http.post("/v1/avatars", files=video, data={"matte": "person"}).json()["detail"]
    http.headers["X-API-Key"] = FileKeyRing(service.files.root).add("a studio", -1)[1]
    assert http.post("/v1/jobs", files=FILES, data=in_form).status_code == 202
    assert service.requests[-1].priority == -1, "the highest of the key"


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


def test_same_request_with_same_key_returns_the_same_job(http: httpx.Client, service: MemoryService) -> None:
    first = post(http, face="0", metadata='{"a": "1", "b": "2"}')
    again = post(http, metadata='{"b":"2","a":"1"}', face="0", loop="pingpong")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json() and again.headers["idempotency-replayed"] == "true"
    in_json = {name: base64.b64encode(content).decode() for name, content in (("audio", AUDIO), ("video", VIDEO))}
    body = {**in_json, "face": "0", "metadata": {"a": "1", "b": "2"}}
    assert http.post("/v1/jobs", json=body, headers=KEY).json() == first.json(), "however it is written down"
    assert len(service.requests) == 1
    assert len(service.uploads()) == 1, "what is only compared is not kept; this is the avatar of the job"


def test_other_request_with_same_key_is_refused(http: httpx.Client, service: MemoryService) -> None:
    job_id = post(http).json()["id"]
    others: list[Any] = [{"audio": AUDIO + b"!"}, {"face": "1"}, {"metadata": '{"a": "2"}'}, {"priority": "-1"}]
    for number, other in enumerate(others, start=2):
        assert job_id in problem(post(http, **other), 422, "idempotency_key_reused")["detail"]
        assert post(http).json()["id"] == job_id
        assert post(http, headers={"Idempotency-Key": f"other {number}"}, **other).status_code == 202
        assert len(service.requests) == number
    files = {"audio": ("a", AUDIO), "input_reference": ("v", VIDEO)}
    refused = http.post("/v1/videos", files=files, headers=KEY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert job_id in refused.json()["error"]["message"]
    problem(post(http, audio=bytes(MAX_UPLOAD_BYTES + 1)), 413, "media_too_large")
    problem(post(http, colour="blue"), 422, "option_invalid")


def test_digest_counts_a_default_that_overrides_the_avatar(http: httpx.Client) -> None:
    job_id = post(http).json()["id"]
    defaults: list[dict[str, Any]] = [{"loop": "pingpong"}, {"priority": "0"}]
    for default in defaults:
        assert post(http, **default).json()["id"] == job_id
    problem(post(http, expressiveness="1"), 422, "idempotency_key_reused")
    problem(post(http, motion="1"), 422, "idempotency_key_reused")
    first, again = (post(http, headers={"Idempotency-Key": "moves"}, motion=text) for text in ("1", "1.0"))
    assert again.json()["id"] == first.json()["id"] != job_id


def test_digest_of_a_url_does_not_fetch_it_again(tmp_path: Path) -> None:
    network = NetworkConfig(allowed_networks=("127.0.0.0/8",))
    audio = answer(AUDIO)
    with web_serving(lambda path, send: send(audio)) as web, api_client(MemoryService(tmp_path), network) as http:
        fields = {"audio_url": web.url("/a.wav"), "avatar_id": "0" * 32}
        first, again = (http.post("/v1/jobs", json=fields, headers=KEY) for _ in range(2))
        assert (first.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert web.num_connections == 1
        other = {**fields, "audio_url": web.url("/b.wav")}
        problem(http.post("/v1/jobs", json=other, headers=KEY), 422, "idempotency_key_reused")
        assert web.num_connections == 1


def test_request_digest_holds_across_restarts(tmp_path: Path) -> None:
    for speech, status in ((AUDIO, 202), (AUDIO, 202), (AUDIO + b"!", 422)):
        with api_client(MemoryService(tmp_path)) as http:
            assert post(http, speech).status_code == status
    check_same_request(job_record(idempotency_key="k", request_digest=None), "0" * 64)  # of another dialect


SPEECH = b"RIFF" + bytes(range(256)) * 30
FILM = bytes(range(255, -1, -1)) * 40


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _ways(content: bytes) -> dict[str, str]:
    text = _base64(content)
    return {
        "plain": text,
        "data URL": f"data:audio/wav;name=a.wav;base64,{text}",
        "capital letters": f"DATA:;BASE64,{text}",
        "url-safe": text.replace("+", "-").replace("/", "_"),
        "without padding": text.rstrip("="),
        "in lines": base64.encodebytes(content).decode(),
    }


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/videos"])
def test_files_in_a_json_body_or_data_url_are_stored(http: httpx.Client, service: MemoryService, path: str) -> None:
    avatar = "video" if path == "/v1/jobs" else "input_reference"
    for number, (way, audio) in enumerate(_ways(SPEECH).items(), start=1):
        answer = http.post(path, json={"audio": audio, "loop": "hold", avatar: _base64(FILM)})
        assert answer.is_success, (way, answer.text)
        assert len(service.requests) == number
        request = service.requests[-1]
        assert on_disk(service.files, job_file_key(request.job_id)).read_bytes() == SPEECH, way
        assert request.video is not None and request.options.loop == "hold"
        assert on_disk(service.files, upload_key(request.video.key)).read_bytes() == FILM
    for speech in (SPEECH, b"RIFFshort"):
        form: dict[str, Any] = {avatar: ("v.mp4", FILM), "audio": (None, _ways(speech)["data URL"])}
        assert http.post(path, files=form).is_success
        assert on_disk(service.files, job_file_key(service.requests[-1].job_id)).read_bytes() == speech


def test_unusable_files(http: httpx.Client, service: MemoryService) -> None:
    cases: list[Any] = [
        ({"audio": "speech.wav"}, 422, "input_invalid", "audio: expected a file or a URL"),
        ({"audio": "/etc/passwd"}, 422, "input_invalid", "audio: expected a file or a URL"),
        ({"audio": _base64(SPEECH) + "?"}, 422, "input_invalid", "audio"),
        ({"audio": _base64(b"a") + _base64(SPEECH)}, 422, "input_invalid", "audio"),
        ({"audio": "data:audio/wav," + "x" * 5000}, 422, "input_invalid", "not base64"),
        ({"audio": "data:" + "x" * 5000}, 422, "input_invalid", "comma"),
        ({"audio": "data:;base64,"}, 422, "media_invalid", "audio: the file is empty"),
        ({"audio": _base64(bytes(MAX_UPLOAD_BYTES + 1))}, 413, "media_too_large", "audio"),
        ({"audio_url": "http://10.0.0.1/a.wav"}, 422, "option_invalid", "audio: sent more than once"),
        ({"face": "x" * 1_200_000}, 422, "input_invalid", "without its files"),
        ({"colour": _base64(SPEECH)}, 422, "option_invalid", "colour"),
        ({"face": {"audio": "x"}}, 422, "option_invalid", "face"),
    ]
    for fields, status, code, named in cases:
        body = {"audio": _base64(SPEECH), "video": _base64(FILM), **fields}
        answer = http.post("/v1/jobs", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert named in answer.json()["detail"]
        assert service.uploads() == [], "a refused request leaves no file"


def test_form_with_too_many_files_is_refused_early(http: httpx.Client, service: MemoryService) -> None:
    names = [f"audio_{number}" for number in range(101)]
    for body in ({"files": dict.fromkeys(names, b"x")}, {"json": dict.fromkeys(names, "data:;base64,UklGRg==")}):
        detail = problem(http.post("/v1/jobs", **body), 422, "option_invalid")["detail"]
        assert detail == "Expected at most 100 files, found more."
        assert service.uploads() == []


def test_the_largest_file_fits(http: httpx.Client, service: MemoryService) -> None:
    largest = bytes(MAX_UPLOAD_BYTES)
    files = dict.fromkeys(("audio", "video", "face_image"), _base64(largest))
    answer = http.post("/v1/jobs", json=files)
    assert answer.status_code == 202, answer.text
    (asked,) = service.asked
    assert asked.num_bytes is not None and asked.num_bytes <= asked.max_bytes


def test_pieces_of_any_size(tmp_path: Path) -> None:
    files = FileStore(tmp_path)
    fields = {'a"\\b': '"}:,{', "audio": _base64(SPEECH), "inner": {"audio": ["x", {"video": "é"}]}, "face": "\u2028\n"}
    for escape in ("\\/", "\\u002f"):  # as PHP writes it, and as any writer may
        text = json.dumps({**fields, "video": _base64(FILM)}).replace("/", escape).encode()
        for size in (1, 2, 3, 5, 64, 1001, len(text)):
            body = JsonBody(("audio", "video"), files, 100_000)
            for at in range(0, len(text), size):
                body.feed(text[at : at + size])
            found, made = body.finish()
            assert found == {**fields, "audio": "", "video": ""}
            for name, content in (("audio", SPEECH), ("video", FILM)):
                assert on_disk(files, upload_key(made[name].key)).read_bytes() == content


def test_a_large_file_is_never_held_whole(tmp_path: Path) -> None:
    num_bytes = 24_000_000
    piece = base64.b64encode(bytes(300_000))
    body = JsonBody(("audio", "video"), FileStore(tmp_path), num_bytes)
    tracemalloc.start()
    body.feed(b'{"audio": "data:audio/wav;base64,')
    for _ in range(num_bytes // 300_000):
        body.feed(piece)
    body.feed(b'"}')
    _, made = body.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made["audio"].num_bytes == num_bytes
    assert peak < 4_000_000
