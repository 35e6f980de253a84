"""`/v1/videos` over a real socket: what OpenAI's clients send, and what they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from errors import FaceNotFoundError
from jobs.model.record import JobStage, JobStatus
from storage.file_keys import job_file_key, result_key
from tests.unit.api_server import VIDEO_BYTES, MemoryService
from tests.unit.on_disk import on_disk

AUDIO = b"RIFF" + bytes(5000)
VIDEO = b"mp4!" + bytes(9000)
FIELDS = {
    *("id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at", "prompt"),
    *("seconds", "size", "remixed_from_video_id", "error"),
}


@pytest.fixture
def url(url: str) -> str:
    return f"{url}/v1"


def _create(http: httpx.Client, **fields: str) -> dict[str, Any]:
    files = {"audio": ("a.wav", AUDIO), "input_reference": ("face.png", VIDEO)}
    answer = http.post("/videos", files=files, data={"prompt": "A woman speaks.", **fields})
    assert answer.status_code == 200, answer.text
    video: dict[str, Any] = answer.json()
    assert video.keys() == FIELDS
    return video


def test_a_video_from_creation_to_deletion(http: httpx.Client, service: MemoryService) -> None:
    video = _create(http, model="warp", seconds="8", size="1280x720", face="0")
    path = f"/videos/{video['id']}"
    assert (video["object"], video["model"], video["status"], video["progress"]) == ("video", "warp", "queued", 0)
    assert (video["completed_at"], video["expires_at"], video["error"]) == (None, None, None)
    (request,) = service.requests
    assert request.video is not None and request.options.face == "0"
    assert on_disk(service.files, job_file_key(video["id"])).read_bytes() == AUDIO
    assert http.get(path).json() == video
    job = {"status": JobStatus.RUNNING, "stage": JobStage.RENDERING, "progress": 0.257, "result_seconds": 3.52}
    service.table.update_job(video["id"], **job)
    running = http.get(path).json()
    assert (running["status"], running["progress"], running["seconds"]) == ("in_progress", 25, "3.52")
    assert http.get(f"{path}/content").json()["error"]["code"] == "state_conflict"
    service.finish(video["id"])
    done = http.get(path).json()
    assert (done["status"], done["progress"]) == ("completed", 100)
    assert type(done["created_at"]) is int and done["created_at"] <= done["completed_at"] < done["expires_at"]
    assert http.get(f"{path}/content", params={"variant": "video"}).content == VIDEO_BYTES
    assert http.get(f"{path}/content", headers={"range": "bytes=5-6"}).content == VIDEO_BYTES[5:7]
    assert http.get(f"{path}/content", params={"variant": "spritesheet"}).status_code == 422
    deleted = http.delete(path)
    assert (deleted.status_code, deleted.json()) == (
        200,
        {"id": video["id"], "object": "video.deleted", "deleted": True},
    )
    assert http.get(path).status_code == http.delete(path).status_code == 404
    assert not on_disk(service.files, result_key(video["id"])).exists()


def test_models_of_other_services_get_the_default_engine(http: httpx.Client, service: MemoryService) -> None:
    for model in ("sora-2", "sora-2-pro", "nonesuch:gan"):
        assert _create(http, model=model)["model"] == service.requests[-1].options.engine == "warp"
    for model in ("wav2lip", "wav2lip:gan", "wav2lip:gan+restoration"):
        assert _create(http, model=model)["model"] == service.requests[-1].options.engine == model


def test_a_finished_video_has_a_size(http: httpx.Client, service: MemoryService, sample_video: Path) -> None:
    video_id = _create(http)["id"]
    service.finish(video_id)
    on_disk(service.files, result_key(video_id)).write_bytes(sample_video.read_bytes())
    width, _, height = http.get(f"/videos/{video_id}").json()["size"].partition("x")
    assert int(width) > 100 and int(height) > 100


def test_content_variant_thumbnail_returns_jpeg(http: httpx.Client, service: MemoryService, sample_video: Path) -> None:
    video_id = _create(http)["id"]
    path, query = f"/videos/{video_id}/content", {"variant": "thumbnail"}
    early = http.get(path, params=query)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "state_conflict")
    service.finish(video_id)
    on_disk(service.files, result_key(video_id)).write_bytes(sample_video.read_bytes())
    picture = http.get(path, params=query)
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert picture.content == http.get(f"/jobs/{video_id}/thumbnail").content and picture.content[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/videos/x/remix", 404, "not_found"),
        ("GET", "/videos/x/y/z", 404, "not_found"),
        ("POST", "/videos/edits", 405, "method_not_allowed"),
        ("PUT", "/videos", 405, "method_not_allowed"),
    ],
)
def test_unknown_path_answers_openai_error(http: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    answer = http.request(method, path)
    message = f"{method} /v1{path} does not exist."
    expected = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    assert (answer.status_code, answer.json()) == (status, {"error": expected})
    assert ("allow" in answer.headers) == (status == 405)
    assert http.get("/nothing").json()["status"] == 404, "other paths answer with a problem"


def test_internal_error_answers_openai_error(http: httpx.Client, service: MemoryService) -> None:
    service.is_broken = True
    answer = http.get("/videos/x")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")


def test_an_unfinished_video_is_cancelled_and_deleted(http: httpx.Client) -> None:
    video_id = _create(http)["id"]
    assert http.delete(f"/videos/{video_id}").json()["deleted"] is True
    assert http.get(f"/jobs/{video_id}").status_code == 404


def test_failed_and_cancelled(http: httpx.Client, service: MemoryService) -> None:
    failed, cancelled = _create(http)["id"], _create(http)["id"]
    service.fail(failed, FaceNotFoundError("face.png: expected a face, found none."))
    http.delete(f"/jobs/{cancelled}")
    video = http.get(f"/videos/{failed}").json()
    assert (video["status"], video["error"]) == (
        "failed",
        {"code": "face_not_found", "message": "face.png: expected a face, found none."},
    )
    assert http.get(f"/videos/{cancelled}").json()["error"]["code"] == "cancelled"


def test_lists_go_page_by_page(http: httpx.Client) -> None:
    ids = [_create(http)["id"] for _ in range(5)][::-1]
    page = http.get("/videos", params={"limit": 2}).json()
    assert page.keys() == {"object", "data", "first_id", "last_id", "has_more"}
    seen = [video["id"] for video in page["data"]]
    assert (page["object"], page["first_id"], page["last_id"]) == ("list", *seen)
    while page["has_more"]:
        page = http.get("/videos", params={"limit": 2, "after": page["last_id"]}).json()
        seen += [video["id"] for video in page["data"]]
    assert seen == ids
    oldest = http.get("/videos", params={"limit": 1, "order": "asc"}).json()
    assert [video["id"] for video in oldest["data"]] == ids[-1:]
    unknown = http.get("/videos", params={"after": "0" * 32})
    assert unknown.status_code == 404 and unknown.json()["error"]["message"].startswith("after"), (
        "no endless first page"
    )
    assert http.get("/videos", params={"after": ids[-1]}).json()["last_id"] is None


def test_json_names_the_files_and_keys_make_it_safe(http: httpx.Client, service: MemoryService) -> None:
    body = {"prompt": "x", "audio": "http://10.0.0.1/a.wav", "input_reference": "http://10.0.0.1/v.png"}
    assert http.post("/videos", json=body).json()["error"]["code"] == "url_refused"
    files = {"audio": ("a.wav", AUDIO), "input_reference": ("face.png", VIDEO)}
    twice = [http.post("/videos", files=files, headers={"Idempotency-Key": "k"}).json()["id"] for _ in range(2)]
    assert twice[0] == twice[1] and len(service.requests) == 1


@pytest.mark.parametrize(
    ("files", "data", "named"),
    [
        ({"audio": ("a.wav", AUDIO)}, {}, "input_reference"),
        ({"input_reference": ("v.mp4", VIDEO)}, {}, "audio"),
        ({"audio": ("a.wav", AUDIO)}, {"avatar_id": "0" * 32, "input_reference_url": "https://a.example/v"}, ""),
        ({"audio": ("a.wav", AUDIO), "input_reference": ("v.mp4", VIDEO)}, {"face": "x" * 200}, "face"),
        ({"audio": ("a.wav", AUDIO), "input_reference": ("v.mp4", VIDEO)}, {"colour": "blue"}, "colour"),
    ],
)
def test_unusable_forms(
    http: httpx.Client, service: MemoryService, files: dict[str, Any], data: dict[str, str], named: str
) -> None:
    answer = http.post("/videos", files=files, data=data)
    assert answer.status_code == 422 and named in answer.json()["error"]["message"], answer.text
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert service.uploads() == []


def test_a_full_service_says_when_to_come_again(http: httpx.Client, service: MemoryService) -> None:
    service.is_full = True
    answer = http.post("/videos", files={"audio": ("a.wav", AUDIO), "input_reference": ("v.mp4", VIDEO)})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert http.get("/videos", params={"limit": 0}).json()["error"]["type"] == "invalid_request_error"
