"""The HTTP API over real sockets: jobs, avatars, videos, errors."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from errors import FaceNotFoundError
from storage.file_keys import job_file_key, upload_key
from tests.unit.api.edge_client import finished
from tests.unit.api_server import MAX_UPLOAD_BYTES, VIDEO_BYTES, MemoryService
from tests.unit.on_disk import on_disk
from tests.unit.quality_report import example_report
from tests.waiting import wait_until

AUDIO = b"RIFF" + bytes(5000)
VIDEO = b"mp4!" + bytes(9000)
NOBODY = "0" * 32


def _files(audio: bytes = AUDIO, video: bytes = VIDEO) -> dict[str, Any]:
    return {"audio": ("a talk.wav", audio), "video": ("../../etc/Presenter é.mp4", video)}


def _problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem: dict[str, Any] = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance", "code", "retryable"}
    assert (problem["status"], problem["code"]) == (status, code), problem
    return problem


def test_submit_streams_files_and_answers_with_the_job(http: httpx.Client, service: MemoryService) -> None:
    answer = http.post(
        "/v1/jobs",
        files=_files(),
        data={
            "face": "1",
            "loop": "hold",
            "engine": "",
            "visible_label": "true",
            "expressiveness": "1.5",
            "motion": "0.4",
            "gaze": "camera",
        },
    )
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


@pytest.mark.parametrize("value", ["-0.1", "2.1", "nan", "much"])
@pytest.mark.parametrize("name", ["expressiveness", "motion"])
def test_a_scale_out_of_range_is_refused(http: httpx.Client, service: MemoryService, name: str, value: str) -> None:
    problem = _problem(http.post("/v1/jobs", files=_files(), data={name: value}), 422, "option_invalid")
    assert name in problem["detail"]
    assert not service.requests


def test_a_job_shows_its_quality_report(http: httpx.Client, service: MemoryService) -> None:
    service.report = example_report()
    job_id = http.post("/v1/jobs", files=_files()).json()["id"]
    assert http.get(f"/v1/jobs/{job_id}").json()["report"] is None
    service.finish(job_id)
    assert http.get(f"/v1/jobs/{job_id}").json()["report"] == service.report
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    assert "audio_offset_ms" in schemas["SourceReport"]["properties"], "clients know what it holds"


def test_submit_with_avatar(http: httpx.Client, service: MemoryService) -> None:
    answer = http.post("/v1/jobs", files={"audio": ("a.wav", AUDIO)}, data={"avatar_id": NOBODY})
    assert answer.status_code == 202, answer.text
    assert (service.requests[0].avatar_id, service.requests[0].video) == (NOBODY, None)


def test_full_service_refuses_before_it_reads(http: httpx.Client, service: MemoryService) -> None:
    service.is_full = True
    answer = http.post("/v1/jobs", files=_files())
    assert _problem(answer, 429, "over_capacity")["retryable"] is True
    assert answer.headers["retry-after"] == "7"
    assert service.uploads() == []


def test_a_picture_says_whose_face_is_meant(http: httpx.Client, service: MemoryService) -> None:
    picture = {"face_image": ("who.jpg", b"picture")}
    assert http.post("/v1/jobs", files={**_files(), **picture}).status_code == 202
    (request,) = service.requests
    assert request.face_image is not None
    assert on_disk(service.files, upload_key(request.face_image.key)).read_bytes() == b"picture"
    answer = http.post("/v1/jobs", files={"audio": ("a.wav", AUDIO), **picture}, data={"avatar_id": NOBODY})
    assert "face_image works only with video" in _problem(answer, 422, "option_invalid")["detail"]


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
        assert f"face_points.{name}" in _problem(answer, 422, "option_invalid")["detail"]
    answer = http.post("/v1/jobs", files=_files(), data={"face_points": "left"})
    assert "expected a JSON object of five points" in _problem(answer, 422, "option_invalid")["detail"]


@pytest.mark.parametrize(
    ("change", "status", "code", "named"),
    [
        ({"files": {"audio": ("a.wav", AUDIO)}}, 422, "option_invalid", "video"),
        ({"files": {"video": ("v.mp4", VIDEO)}}, 422, "option_invalid", "audio"),
        ({"data": {"avatar_id": NOBODY}}, 422, "option_invalid", "both"),
        ({"data": {"colour": "blue"}}, 422, "option_invalid", "colour"),
        ({"data": {"loop": "sideways"}}, 422, "option_invalid", "loop"),
        ({"data": {"engine": "nonesuch"}}, 422, "option_invalid", "engine"),
        ({"data": {"face": "x" * 5000}}, 422, "option_invalid", "face"),
        ({"files": _files(audio=b"")}, 422, "media_invalid", "a talk.wav is empty"),
        ({"files": _files(audio=bytes(MAX_UPLOAD_BYTES + 1))}, 413, "media_too_large", "audio"),
        ({"files": _files(audio=bytes(3 * MAX_UPLOAD_BYTES))}, 413, "media_too_large", "bytes"),
        ({"data": {"priority": "2"}}, 422, "option_invalid", "priority"),
        ({"data": {"video_url": "http://10.0.0.1/v.mp4"}}, 422, "url_refused", "video: http://10.0.0.1/v.mp4"),
        (
            {"files": {"video": ("v.mp4", VIDEO)}, "data": {"audio": "https://[::1]/a.wav"}},
            422,
            "url_refused",
            "audio",
        ),
    ],
)
def test_unusable_forms(
    http: httpx.Client, service: MemoryService, change: dict[str, Any], status: int, code: str, named: str
) -> None:
    answer = http.post("/v1/jobs", **{"files": _files(), **change})
    assert named in _problem(answer, status, code)["detail"]
    assert service.uploads() == [], "a refused request leaves no file"
    assert service.requests == []


def test_json_body_with_urls(http: httpx.Client) -> None:
    urls = {"audio_url": "http://10.0.0.1/a.wav", "video_url": "http://10.0.0.1/v.mp4"}
    for path in ("/v1/jobs", "/v1/avatars"):
        fields = urls if path == "/v1/jobs" else {"video": urls["video_url"]}
        assert "http://10.0.0.1/" in _problem(http.post(path, json=fields), 422, "url_refused")["detail"]
        _problem(http.post(path, json={}), 422, "option_invalid")
        assert "multipart" in _problem(http.post(path, data={"face": "0"}), 422, "input_invalid")["detail"]


def test_broken_multipart(http: httpx.Client, service: MemoryService) -> None:
    form = {"content-type": "multipart/form-data; boundary=x"}
    part = b'--x\r\ncontent-disposition: form-data; name="audio"; filename="a.wav"\r\n\r\nRIFF'
    for body in (part, b"no boundary at all", part + b"\r\n--x\r\n"):
        _problem(http.post("/v1/jobs", content=body, headers=form), 422, "input_invalid")
    assert service.uploads() == []


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


def test_video_whole_and_in_ranges(http: httpx.Client, service: MemoryService) -> None:
    job_id = _submit(http)
    assert job_id in _problem(http.get(f"/v1/jobs/{job_id}/video"), 409, "state_conflict")["detail"]
    service.finish(job_id)
    link = http.get(f"/v1/jobs/{job_id}").json()["links"]["video"]
    whole = http.get(link)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, VIDEO_BYTES, "video/mp4")
    disposition = whole.headers["content-disposition"]
    assert disposition.startswith("inline") and "talk.mp4" in disposition
    assert http.get(link, params={"download": "1"}).headers["content-disposition"].startswith("attachment")
    part = http.get(link, headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, VIDEO_BYTES[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(VIDEO_BYTES)}"
    assert http.get(link, headers={"range": f"bytes={len(VIDEO_BYTES)}-"}).status_code == 416
    for unknown in ("seconds=0-1", "items", ""):
        whole = http.get(link, headers={"range": unknown})
        assert (whole.status_code, whole.content) == (200, VIDEO_BYTES), "RFC 9110: ignored"
    head = http.head(link)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(VIDEO_BYTES)), b"")


def test_list_and_cancel(http: httpx.Client) -> None:
    first, second = _submit(http), _submit(http)
    assert [job["id"] for job in http.get("/v1/jobs").json()["jobs"]] == [second, first]
    assert http.get(f"/v1/jobs/{second}").json()["queue_position"] == 1
    for _ in range(2):
        answer = http.post(f"/v1/jobs/{first}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert [job["id"] for job in http.get("/v1/jobs", params={"status": "queued"}).json()["jobs"]] == [second]
    assert "limit" in _problem(http.get("/v1/jobs", params={"limit": 0}), 422, "option_invalid")["detail"]
    assert (
        _problem(http.get("/v1/jobs", params={"limit": "x"}), 422, "option_invalid")["detail"]
        == "limit: must be an integer"
    )


def test_delete_cancels_first_and_then_removes(http: httpx.Client, service: MemoryService) -> None:
    job_id = _submit(http)
    assert http.delete(f"/v1/jobs/{job_id}").json()["status"] == "cancelled"
    assert http.get(f"/v1/jobs/{job_id}").status_code == 200
    assert http.delete(f"/v1/jobs/{job_id}").json()["id"] == job_id
    _problem(http.delete(f"/v1/jobs/{job_id}"), 404, "not_found")
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
        assert "metadata" in _problem(answer, 422, "option_invalid")["detail"]
    urls = {"audio_url": "http://10.0.0.1/a.wav", "video_url": "http://10.0.0.1/v.mp4"}
    _problem(http.post("/v1/jobs", json={**urls, "metadata": words}), 422, "url_refused")
    assert "metadata" in _problem(http.post("/v1/jobs", json={"metadata": ["x"]}), 422, "option_invalid")["detail"]
    assert "engine" in _problem(http.post("/v1/jobs", json={"engine": {"x": "y"}}), 422, "option_invalid")["detail"]


def test_a_submission_may_wait_for_its_end(http: httpx.Client, service: MemoryService) -> None:
    short = http.post("/v1/jobs", files=_files(), params={"wait": 0.2})
    assert (short.status_code, short.json()["status"]) == (202, "queued")
    assert (
        "wait" in _problem(http.post("/v1/jobs", files=_files(), params={"wait": -1}), 422, "option_invalid")["detail"]
    )

    def finish_once_it_is_waited_for() -> None:
        num_before, num_waits = len(service.requests), service.num_waits
        is_asked.set()
        while len(service.requests) == num_before or service.num_waits == num_waits:
            threading.Event().wait(0.01)
        service.finish(service.requests[-1].job_id)

    is_asked = threading.Event()
    threading.Thread(target=finish_once_it_is_waited_for, daemon=True).start()
    assert is_asked.wait(60)
    later = http.post("/v1/jobs", files=_files(), params={"wait": 50})
    assert (later.status_code, later.json()["status"]) == (200, "succeeded")
    service.outcome = "video"
    video = http.post("/v1/jobs", files=_files(), params={"wait": 9}, headers={"accept": "video/mp4"})
    assert (video.status_code, video.content, video.headers["content-type"]) == (200, VIDEO_BYTES, "video/mp4")
    assert http.get(video.headers["location"]).json()["status"] == "succeeded"
    service.outcome = FaceNotFoundError("v.mp4: expected a face, found none.")
    response = http.post("/v1/jobs", files=_files(), params={"wait": 9})
    assert (response.status_code, response.json()["error"]["code"]) == (200, "face_not_found")
    failed = http.post("/v1/jobs", files=_files(), params={"wait": 9}, headers={"accept": "video/mp4"})
    assert "found none" in _problem(failed, 422, "face_not_found")["detail"]


def test_failed_job_says_why(http: httpx.Client, service: MemoryService) -> None:
    job_id = _submit(http)
    service.fail(job_id, FaceNotFoundError("v.mp4: expected a face, found none."))
    expected = {"code": "face_not_found", "message": "v.mp4: expected a face, found none.", "retryable": False}
    assert http.get(f"/v1/jobs/{job_id}").json()["error"] == expected


def test_retry_of_a_failed_job_is_a_new_job(http: httpx.Client, service: MemoryService) -> None:
    job_id = _submit(http)
    service.fail(job_id, FaceNotFoundError("v.mp4: expected a face, found none."))
    answer = http.post(f"/v1/jobs/{job_id}/retry")
    again = answer.json()
    assert (answer.status_code, again["status"], again["error"]) == (202, "queued", None)
    assert again["id"] != job_id and answer.headers["location"] == again["links"]["self"]
    assert http.get(f"/v1/jobs/{job_id}").json()["status"] == "failed"
    speech = http.get(f"/v1/jobs/{again['id']}/audio")
    assert speech.content == AUDIO and "sandbox" in speech.headers["content-security-policy"]


def test_avatars(http: httpx.Client) -> None:
    answer = http.post("/v1/avatars", files={"video": ("v.mp4", VIDEO)}, data={"face": "0"})
    avatar = answer.json()
    assert (answer.status_code, avatar["status"], avatar["label"]) == (202, "analysing", "v.mp4")
    of_a_job = {"Idempotency-Key": "k"}
    http.post("/v1/jobs", files={"video": ("v.mp4", VIDEO), "audio": ("a.wav", AUDIO)}, headers=of_a_job)
    again = http.post("/v1/avatars", files={"video": ("v.mp4", VIDEO)}, data={"face": "0"}, headers=of_a_job)
    assert (again.status_code, again.json()["id"]) == (202, avatar["id"]), "the key of a job names no avatar"
    avatar = again.json()
    location = answer.headers["location"]
    assert http.get(location).json() == avatar
    assert http.get("/v1/avatars").json()["avatars"] == [avatar]
    assert http.delete(location).status_code == 204
    _problem(http.get(location), 404, "not_found")


def test_an_avatar_need_not_be_kept(http: httpx.Client) -> None:
    sent = http.post("/v1/avatars", files={"video": ("v.mp4", VIDEO)}, data={"keep": "false"}).json()
    assert (sent["is_kept"], http.get("/v1/avatars").json()["avatars"]) == (False, [])
    assert http.get(f"/v1/avatars/{sent['id']}").json() == sent
    kept = http.post("/v1/avatars", files={"video": ("w.mp4", VIDEO + b"w")}).json()
    assert (kept["is_kept"], http.get("/v1/avatars").json()["avatars"]) == (True, [kept])
    _problem(http.post("/v1/avatars", files={"video": ("v.mp4", VIDEO)}, data={"keep": "maybe"}), 422, "option_invalid")


def test_errors_of_the_framework_are_problems(http: httpx.Client, service: MemoryService) -> None:
    assert _problem(http.get("/nowhere"), 404, "not_found")["instance"] == "/nowhere"
    refused = http.put("/v1/jobs")
    _problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"]
    _problem(http.get(f"/v1/jobs/{NOBODY}"), 404, "not_found")
    service.is_broken = True
    assert "secret" not in _problem(http.get(f"/v1/jobs/{NOBODY}"), 500, "internal")["detail"]


def test_health(http: httpx.Client, service: MemoryService) -> None:
    assert http.get("/healthz").json() == http.get("/readyz").json() == {"status": "ok"}
    service.is_ready = False
    assert _problem(http.get("/readyz"), 503, "replica_lost")["retryable"] is True
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
    assert [[re.fullmatch(each, "audio_anna") is not None for each in names] for names in patterns] == [
        [True, False]
    ] * 2
    assert all(not re.search(each, "audio_url") for names in patterns for each in names)
    assert all(field.get("description") for field in form["properties"].values())
    assert form["properties"].keys() == by_url["properties"].keys() >= {"video_url", "face_image_url", "callback_url"}
    assert "binary" not in str(by_url)
    assert submit["security"] == [{"HTTPBearer": []}, {"X-API-Key": []}, {}]
    expected = "200 202 401 403 404 409 413 422 429 503 504 507"
    assert sorted(submit["responses"]) == expected.split()
    assert "application/problem+json" in submit["responses"]["429"]["content"]
    closed = [way for path, ways in schema["paths"].items() if path.startswith("/v1/") for way in ways.values()]
    assert all({"401", "403", "503"} <= way["responses"].keys() for way in closed)
    page = http.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) >= 2
    # The page works on a machine without a network: everything that it loads is served here.
    assert all(http.get(address).status_code == 200 for address in loaded if address.startswith("/"))
    assert not [address for address in loaded if not address.startswith("/")]


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/openapi.json", "/healthz", "/v1/status", "/v1/jobs", "/v1/nothing", "/v1/jobs/0", "/v1/videos/0"],
)
def test_response_has_nosniff_and_no_frames(http: httpx.Client, path: str) -> None:
    headers = http.get(path).headers
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert headers.get_list("x-frame-options") == ["DENY"]
    (policy,) = headers.get_list("content-security-policy")
    assert "frame-ancestors 'none'" in policy


def test_file_keeps_its_own_policy(http: httpx.Client, service: MemoryService) -> None:
    job_id = finished(http, service)
    video = http.get(f"/v1/jobs/{job_id}/video", headers={"Range": "bytes=0-5"})
    assert (video.status_code, video.headers["x-content-type-options"]) == (206, "nosniff")
    avatar = http.post("/v1/avatars", files={"video": ("face.mp4", b"mp4!" + bytes(90))}).json()
    source = http.get(avatar["links"]["source"]).headers
    assert source["content-security-policy"].startswith("sandbox") and source["x-content-type-options"] == "nosniff"


def test_internal_error_has_security_headers(http: httpx.Client, service: MemoryService) -> None:
    service.is_broken = True
    answer = http.get("/v1/jobs/0")
    assert (answer.status_code, answer.headers["x-content-type-options"]) == (500, "nosniff")
