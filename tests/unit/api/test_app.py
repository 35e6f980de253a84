"""The HTTP API over real sockets: jobs, avatars, videos, errors, and the addresses in its links."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import ValidationError

from lipwright.api.v1.protocol import webhook_view
from lipwright.config import AccessConfig
from lipwright.errors import FaceNotFoundError
from lipwright.net.access_rule import FRONT_HEADER, AccessRule
from lipwright.storage.file_keys import job_file_key, upload_key
from lipwright.storage.local.api_keys import FileKeyRing
from tests.unit.api.edge_client import AUDIO, VIDEO, problem
from tests.unit.api_server import MAX_UPLOAD_BYTES, VIDEO_BYTES, MemoryService
from tests.unit.on_disk import on_disk
from tests.waiting import wait_until

NOBODY = "0" * 32


def _files(audio: bytes = AUDIO, video: bytes = VIDEO) -> dict[str, Any]:
    return {"audio": ("a talk.wav", audio), "video": ("../../etc/Presenter é.mp4", video)}


def test_submit_streams_files_and_answers_with_the_job(http: httpx.Client, service: MemoryService) -> None:
    form = {"face": "1", "loop": "hold", "engine": "", "visible_label": "true", "expressiveness": "1.5"}
    answer = http.post("/v1/jobs", files=_files(), data={**form, "motion": "0.4", "gaze": "camera"})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert (job["status"], job["stage"], job["queue_position"], job["progress"]) == ("queued", "queued", 0, 0.0)
    assert job["links"]["video"] is None
    marks = {"visible_label": True, "visible_label_top": False}
    sound = {"background_gain_db": None, "music_gain_db": None, "loudness_lufs": None}
    turns = {"turns": None, "idle_mouths": None, "subtitles": None, "audio_speed": None}
    chosen = {"engine": "warp", "face": "1", "loop": "hold", "expressiveness": 1.5, "motion": 0.4}
    chosen |= {"gaze": "camera", "expression": "neutral", "head": "lively", "action": None}
    picture = {"size": None, "crop": None, "fps": None, "format": "mp4", "quality": "balanced", "language": None}
    behind = {"background": None, "background_id": None, "background_loop": "loop", "matte": "auto"}
    assert job["options"] == {**chosen, **marks, **sound, **turns, **picture, **behind}
    (request,) = service.requests
    assert on_disk(service.files, job_file_key(job["id"])).read_bytes() == AUDIO
    assert request.video is not None
    assert on_disk(service.files, upload_key(request.video.key)).read_bytes() == VIDEO
    assert request.video.sha256 == hashlib.sha256(VIDEO).hexdigest()
    assert (request.video.num_bytes, request.video.label) == (len(VIDEO), "Presenter é.mp4")


def test_full_service_refuses_before_it_reads(http: httpx.Client, service: MemoryService) -> None:
    service.is_full = True
    answer = http.post("/v1/jobs", files=_files())
    assert problem(answer, 429, "over_capacity")["retryable"] is True
    assert answer.headers["retry-after"] == "7"
    assert service.uploads() == []


FACE_POINTS: dict[str, list[float]] = {
    "left_eye": [20, 20], "right_eye": [44, 20.5], "mouth_left": [24, 44], "mouth_right": [40, 44], "chin": [32, 60]
}  # fmt: skip


def test_face_points_are_taken_from_forms_and_json(http: httpx.Client, service: MemoryService) -> None:
    sent = {"face_points": json.dumps(FACE_POINTS)}
    assert http.post("/v1/jobs", files=_files(), data=sent).status_code == 202
    files = {name: base64.b64encode(bytes(200)).decode() for name in ("audio", "video")}
    assert http.post("/v1/jobs", json={**files, "face_points": FACE_POINTS}).status_code == 202
    for request in service.requests:
        assert request.face_points is not None
        assert request.face_points.numbers == (20, 20, 44, 20.5, 24, 44, 40, 44, 32, 60)
    for name, place in (("chin", [1.0]), ("chin", [1.0, float("inf")]), ("nose", [1.0, 2.0])):
        answer = http.post("/v1/jobs", files=_files(), data={"face_points": json.dumps({**FACE_POINTS, name: place})})
        assert f"face_points.{name}" in problem(answer, 422, "option_invalid")["detail"]
    answer = http.post("/v1/jobs", files=_files(), data={"face_points": "left"})
    assert "expected a JSON object of five points" in problem(answer, 422, "option_invalid")["detail"]


def test_unusable_forms(http: httpx.Client, service: MemoryService) -> None:
    cases: list[Any] = [
        ({"files": {"audio": ("a.wav", AUDIO)}}, 422, "option_invalid", "video"),
        ({"files": {"video": ("v.mp4", VIDEO)}}, 422, "option_invalid", "audio"),
        ({"data": {"avatar_id": NOBODY}}, 422, "option_invalid", "both"),
        ({"data": {"colour": "blue"}}, 422, "option_invalid", "colour"),
        ({"data": {"loop": "sideways"}}, 422, "option_invalid", "loop"),
        ({"data": {"engine": "nonesuch"}}, 422, "option_invalid", "engine"),
        ({"data": {"face": "x" * 5000}}, 422, "option_invalid", "face"),
        ({"data": {"motion": "-0.1"}}, 422, "option_invalid", "motion"),
        ({"data": {"motion": "much"}}, 422, "option_invalid", "motion"),
        ({"data": {"expressiveness": "2.1"}}, 422, "option_invalid", "expressiveness"),
        ({"data": {"expressiveness": "nan"}}, 422, "option_invalid", "expressiveness"),
        ({"files": {"audio": ("a.wav", AUDIO), "face_image": ("a.jpg", b"a")}, "data": {"avatar_id": NOBODY}}, 422)
        + ("option_invalid", "face_image works only with video"),
        ({"files": _files(audio=b"")}, 422, "media_invalid", "a talk.wav is empty"),
        ({"files": _files(audio=bytes(MAX_UPLOAD_BYTES + 1))}, 413, "media_too_large", "audio"),
        ({"files": _files(audio=bytes(3 * MAX_UPLOAD_BYTES))}, 413, "media_too_large", "bytes"),
        ({"data": {"priority": "2"}}, 422, "option_invalid", "priority"),
        ({"data": {"video_url": "http://10.0.0.1/v.mp4"}}, 422, "url_refused", "video: http://10.0.0.1/v.mp4"),
        ({"files": {"video": ("v.mp4", VIDEO)}, "data": {"audio": "https://[::1]/a"}}, 422, "url_refused", "audio"),
    ]
    for change, status, code, named in cases:
        answer = http.post("/v1/jobs", **{"files": _files(), **change})
        assert named in problem(answer, status, code)["detail"]
        assert service.uploads() == [], "a refused request leaves no file"
        assert service.requests == []


def test_broken_multipart(http: httpx.Client, service: MemoryService) -> None:
    form = {"content-type": "multipart/form-data; boundary=x"}
    part = b'--x\r\ncontent-disposition: form-data; name="audio"; filename="a.wav"\r\n\r\nRIFF'
    for body in (part, b"no boundary at all", part + b"\r\n--x\r\n"):
        problem(http.post("/v1/jobs", content=body, headers=form), 422, "input_invalid")
    for path in ("/v1/jobs", "/v1/avatars"):
        assert "multipart" in problem(http.post(path, data={"face": "0"}), 422, "input_invalid")["detail"]
        problem(http.post(path, json={}), 422, "option_invalid")
    assert service.uploads() == []


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/jobs", 413), (f"/v1/avatars/{NOBODY}/clips", 404), ("/v1/nothing", 404)]
)
def test_error_before_body_is_read_does_not_reset_upload(url: str, path: str, status: int) -> None:
    body, address = bytes(8_000_000), urlsplit(url)
    with socket.create_connection((address.hostname, address.port or 0), 30) as line:
        line.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        line.sendall(body)
        assert line.recv(4096).startswith(f"HTTP/1.1 {status}".encode())


def test_vanished_client_leaves_no_file(http: httpx.Client, service: MemoryService) -> None:
    def body() -> Iterator[bytes]:
        yield b'--x\r\ncontent-disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n' + bytes(100_000)
        wait_until(service.uploads)
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        http.post("/v1/jobs", content=body(), headers={"content-type": "multipart/form-data; boundary=x"})
    wait_until(lambda: not service.uploads())


def _submit(http: httpx.Client) -> str:
    return str(http.post("/v1/jobs", files=_files()).json()["id"])


def test_video_is_shown_or_downloaded_under_its_name(http: httpx.Client, service: MemoryService) -> None:
    job_id = _submit(http)
    assert job_id in problem(http.get(f"/v1/jobs/{job_id}/video"), 409, "state_conflict")["detail"]
    service.finish(job_id)
    link = http.get(f"/v1/jobs/{job_id}").json()["links"]["video"]
    whole = http.get(link)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, VIDEO_BYTES, "video/mp4")
    disposition = whole.headers["content-disposition"]
    assert disposition.startswith("inline") and "talk.mp4" in disposition
    assert http.get(link, params={"download": "1"}).headers["content-disposition"].startswith("attachment")
    head = http.head(link)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(VIDEO_BYTES)), b"")


def test_cancel_may_be_repeated(http: httpx.Client) -> None:
    first, second = _submit(http), _submit(http)
    assert http.get(f"/v1/jobs/{second}").json()["queue_position"] == 1
    for _ in range(2):
        answer = http.post(f"/v1/jobs/{first}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    for limit, detail in ((0, "limit"), ("x", "limit: must be an integer")):
        refused = problem(http.get("/v1/jobs", params={"limit": limit}), 422, "option_invalid")
        assert refused["detail"].startswith(detail)


def test_delete_cancels_first_and_then_removes(http: httpx.Client, service: MemoryService) -> None:
    job_id = _submit(http)
    assert http.delete(f"/v1/jobs/{job_id}").json()["status"] == "cancelled"
    assert http.get(f"/v1/jobs/{job_id}").status_code == 200
    assert http.delete(f"/v1/jobs/{job_id}").json()["id"] == job_id
    problem(http.delete(f"/v1/jobs/{job_id}"), 404, "not_found")
    done = _submit(http)
    service.finish(done)
    assert http.post(f"/v1/jobs/{done}/cancel").json()["status"] == "succeeded", "a cancel removes nothing"
    assert http.delete(f"/v1/jobs/{done}").json()["status"] == "succeeded"
    assert http.get("/v1/jobs").json()["jobs"] == []
    assert service.files.job_ids() == []


def test_jobs_carry_names_and_the_callers_own_words(http: httpx.Client, service: MemoryService) -> None:
    words = {"order": "17", "für": "Anna"}
    job = http.post("/v1/jobs", files=_files(), data={"metadata": json.dumps(words)}).json()
    inputs = {"audio": "a talk.wav", **dict.fromkeys(("source", "presenter"), "Presenter é.mp4")}
    assert (job["metadata"], job["inputs"]) == (words, inputs)
    assert http.get(f"/v1/jobs/{job['id']}").json()["metadata"] == words
    assert http.get("/v1/jobs").json()["jobs"][0]["metadata"] == words
    for wrong in ("no json", "[1]", '{"a": {"b": "c"}}', '{"": "x"}', json.dumps({str(n): "" for n in range(17)})):
        answer = http.post("/v1/jobs", files=_files(), data={"metadata": wrong})
        assert "metadata" in problem(answer, 422, "option_invalid")["detail"]
    for name, value in (("metadata", ["x"]), ("engine", {"x": "y"})):
        assert name in problem(http.post("/v1/jobs", json={name: value}), 422, "option_invalid")["detail"]
    answer = http.post("/v1/jobs", files=_files(), data={"metadata": "[1]"})
    assert problem(answer, 422, "option_invalid")["detail"] == "metadata: must be an object"
    answer = http.post("/v1/jobs", files=_files(), data={"callback_url": "ftp://host/"})
    assert problem(answer, 422, "url_refused")["detail"].startswith("callback_url: ftp://host/: expected the scheme")


def test_a_submission_may_wait_for_its_end(http: httpx.Client, service: MemoryService) -> None:
    def submit(wait: float, **headers: str) -> httpx.Response:
        return http.post("/v1/jobs", files=_files(), params={"wait": wait}, headers=headers)

    short = submit(0.2)
    assert (short.status_code, short.json()["status"]) == (202, "queued")
    assert "wait" in problem(submit(-1), 422, "option_invalid")["detail"]
    num_waits = service.num_waits

    def finish_once_it_is_waited_for() -> None:
        wait_until(lambda: len(service.requests) == 2 and service.num_waits > num_waits)
        service.finish(service.requests[-1].job_id)

    threading.Thread(target=finish_once_it_is_waited_for, daemon=True).start()
    later = submit(50)
    assert (later.status_code, later.json()["status"]) == (200, "succeeded")
    service.outcome = "video"
    video = submit(9, accept="video/mp4")
    assert (video.status_code, video.content, video.headers["content-type"]) == (200, VIDEO_BYTES, "video/mp4")
    assert http.get(video.headers["location"]).json()["status"] == "succeeded"
    service.outcome = FaceNotFoundError("v.mp4: expected a face, found none.")
    failed = submit(9)
    assert (failed.status_code, failed.json()["error"]["code"]) == (200, "face_not_found")
    assert "found none" in problem(submit(9, accept="video/mp4"), 422, "face_not_found")["detail"]


def test_retry_of_a_failed_job_is_a_new_job(http: httpx.Client, service: MemoryService) -> None:
    job_id = _submit(http)
    service.fail(job_id, FaceNotFoundError("v.mp4: expected a face, found none."))
    expected = {"code": "face_not_found", "message": "v.mp4: expected a face, found none.", "retryable": False}
    assert http.get(f"/v1/jobs/{job_id}").json()["error"] == expected
    answer = http.post(f"/v1/jobs/{job_id}/retry")
    again = answer.json()
    assert (answer.status_code, again["status"], again["error"]) == (202, "queued", None)
    assert again["id"] != job_id and answer.headers["location"] == again["links"]["self"]
    assert http.get(f"/v1/jobs/{job_id}").json()["status"] == "failed"
    speech = http.get(f"/v1/jobs/{again['id']}/audio")
    assert speech.content == AUDIO and "sandbox" in speech.headers["content-security-policy"]


def test_avatars_are_created_listed_and_deleted(http: httpx.Client) -> None:
    answer = http.post("/v1/avatars", files={"video": ("v.mp4", VIDEO)}, data={"face": "0"})
    avatar = answer.json()
    assert (answer.status_code, avatar["status"], avatar["label"]) == (202, "analysing", "v.mp4")
    of_a_job = {"Idempotency-Key": "k"}
    http.post("/v1/jobs", files={"video": ("v.mp4", VIDEO), "audio": ("a.wav", AUDIO)}, headers=of_a_job)
    again = http.post("/v1/avatars", files={"video": ("v.mp4", VIDEO)}, data={"face": "0"}, headers=of_a_job)
    assert (again.status_code, again.json()["id"]) == (202, avatar["id"]), "the key of a job names no avatar"
    unkept = http.post("/v1/avatars", files={"video": ("w.mp4", VIDEO + b"w")}, data={"keep": "false"}).json()
    assert http.get(f"/v1/avatars/{unkept['id']}").json() == unkept
    location = answer.headers["location"]
    assert http.get(location).json() == again.json()
    assert http.get("/v1/avatars").json()["avatars"] == [again.json()]
    assert (again.json()["is_kept"], unkept["is_kept"]) == (True, False)
    assert http.delete(location).status_code == 204
    problem(http.get(location), 404, "not_found")
    problem(http.post("/v1/avatars", files={"video": ("v.mp4", VIDEO)}, data={"keep": "maybe"}), 422, "option_invalid")


def test_errors_of_the_framework_are_problems(http: httpx.Client, service: MemoryService) -> None:
    assert problem(http.get("/nowhere"), 404, "not_found")["instance"] == "/nowhere"
    refused = http.put("/v1/jobs")
    problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"]
    problem(http.get(f"/v1/jobs/{NOBODY}"), 404, "not_found")
    service.is_broken = True
    broken = http.get(f"/v1/jobs/{NOBODY}")
    assert "secret" not in problem(broken, 500, "internal")["detail"]
    assert broken.headers["x-content-type-options"] == "nosniff"


def test_health(http: httpx.Client, service: MemoryService) -> None:
    assert http.get("/healthz").json() == http.get("/readyz").json() == {"status": "ok"}
    service.is_ready = False
    assert problem(http.get("/readyz"), 503, "replica_lost")["retryable"] is True
    assert http.get("/healthz").status_code == 200


def test_openapi_describes_the_form(http: httpx.Client) -> None:
    schema = http.get("/openapi.json").json()
    submit = schema["paths"]["/v1/jobs"]["post"]
    content = submit["requestBody"]["content"]
    named = (content[kind]["schema"]["$ref"] for kind in ("multipart/form-data", "application/json"))
    form, by_url = (schema["components"]["schemas"][ref.rpartition("/")[2]] for ref in named)
    assert {"type": "string", "format": "binary"}.items() <= form["properties"]["audio"].items()
    speech = ("audio", "audio_url", "text", "turns", "subtitles", "subtitles_url", "translate_to")
    assert form["allOf"] == [{"anyOf": [{"required": [name]} for name in speech]}]
    patterns = [list(body["patternProperties"]) for body in (form, by_url)]
    matches = [[re.fullmatch(each, "audio_anna") is not None for each in names] for names in patterns]
    assert matches == [[True, False]] * 2
    assert all(not re.search(each, "audio_url") for names in patterns for each in names)
    assert all(field.get("description") for field in form["properties"].values())
    assert form["properties"].keys() == by_url["properties"].keys() >= {"video_url", "face_image_url", "callback_url"}
    assert "binary" not in str(by_url)
    assert submit["security"] == [{"HTTPBearer": []}, {"X-API-Key": []}, {}]
    expected = "200 202 401 403 404 409 413 422 429 503 504 507"
    assert sorted(submit["responses"]) == expected.split()
    assert "application/problem+json" in submit["responses"]["429"]["content"]
    assert "audio_offset_ms" in schema["components"]["schemas"]["SourceReport"]["properties"], "reports are described"
    closed = [way for path, ways in schema["paths"].items() if path.startswith("/v1/") for way in ways.values()]
    assert all({"401", "403", "503"} <= way["responses"].keys() for way in closed)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', http.get("/docs").raise_for_status().text)
    assert len(loaded) >= 2 and all(address.startswith("/") for address in loaded), "it needs no network"
    assert all(http.get(address).status_code == 200 for address in loaded)


def test_response_has_nosniff_and_no_frames(http: httpx.Client) -> None:
    pages = ("/", "/docs", "/openapi.json", "/healthz", "/v1/status", "/v1/jobs")
    for path in (*pages, "/v1/nothing", "/v1/jobs/0", "/v1/videos/0"):
        headers = http.get(path).headers
        assert headers.get_list("x-content-type-options") == ["nosniff"], path
        assert headers.get_list("x-frame-options") == ["DENY"], path
        (policy,) = headers.get_list("content-security-policy")
        assert "frame-ancestors 'none'" in policy, path


OUTSIDE = {"x-forwarded-proto": "https", "x-forwarded-host": "lips.example", "x-forwarded-prefix": "/lip"}


def _link_starts(url: str, service: MemoryService, key: str, headers: dict[str, str]) -> set[str]:
    """What the links of all answers begin with."""
    with httpx.Client(base_url=url, headers={**headers, "x-api-key": key}, timeout=60, trust_env=False) as http:
        job = http.post("/v1/jobs", files=_files())
        avatar = http.post("/v1/avatars", files={"video": ("v", VIDEO)})
        record = service.table.get_job(job.json()["id"])
        service.finish(record.id)
        events = http.get(f"/v1/jobs/{record.id}/events").text
        status = json.loads(next(line for line in events.splitlines() if line.startswith("data: "))[6:])
        servers = http.get("/openapi.json").json().get("servers", [{"url": ""}])
        own = http.get("/", headers={"accept": "application/json"}).json()["links"]["jobs"]
        listed = http.get("/v1/jobs").json()["jobs"][0]["links"]["self"]
    links = [own, f"{servers[0]['url']}/v1/", job.headers["location"], listed, status["links"]["video"]]
    links += [webhook_view(record)["links"]["source"], avatar.headers["location"], avatar.json()["links"]["source"]]
    return {link.partition("/v1/")[0] for link in links}


@pytest.fixture
def key(service: MemoryService) -> str:
    """An API key, without which nobody comes in through a proxy."""
    return FileKeyRing(service.files.root).add("proxy")[1]


def test_links_without_trusted_proxies_are_paths(url: str, service: MemoryService, key: str) -> None:
    assert _link_starts(url, service, key, OUTSIDE) == {""}


@pytest.mark.parametrize("api_settings", [{"access": AccessConfig(trusted_proxies=("10.0.0.0/8", "127.0.0.1"))}])
def test_links_behind_proxy_are_whole(url: str, service: MemoryService, key: str) -> None:
    cases: list[tuple[dict[str, str], str]] = [
        (OUTSIDE, "https://lips.example/lip"),
        ({"x-forwarded-proto": "https", "host": "lips.example:8443"}, "https://lips.example:8443"),
        ({"x-forwarded-proto": "https", "x-forwarded-host": "evil.example, lips.example"}, "https://lips.example"),
        ({"x-forwarded-host": "lips.example"}, ""),
        ({"x-forwarded-proto": "javascript", "x-forwarded-host": "lips.example"}, ""),
        ({"x-forwarded-proto": "https", "x-forwarded-host": "a@b/<script>"}, ""),
        ({"x-forwarded-proto": "https", "x-forwarded-prefix": "//evil.example"}, ""),
        ({"x-forwarded-proto": "https", "x-lipwright-front": "203.0.113.9 1.1"}, ""),
        ({"x-forwarded-proto": "https", "host": "a.example", FRONT_HEADER: "10.1.2.3 1.1"}, "https://a.example"),
    ]
    for headers, expected in cases:
        assert _link_starts(url, service, key, headers) == {expected}, headers


def test_trusted_proxies_are_networks_of_both_ip_versions() -> None:
    rule = AccessRule(False, False, ("10.0.0.0/8",))
    assert [rule.trusts(peer) for peer in ("::ffff:10.1.2.3", "::ffff:11.1.2.3", "nobody", "")] == [True, *[False] * 3]
    with pytest.raises(ValidationError):
        AccessConfig(trusted_proxies=("proxy.example",))
