"""`/v1/videos` over a real socket: what OpenAI's clients send and read, and OpenAI's own Python SDK."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from lipwright.errors import FaceNotFoundError
from lipwright.jobs.model.record import JobStage, JobStatus
from lipwright.storage.file_keys import job_file_key, result_key
from lipwright.storage.local.api_keys import FileKeyRing
from tests.unit.api.edge_client import AUDIO, VIDEO
from tests.unit.api_server import VIDEO_BYTES, MemoryService
from tests.unit.on_disk import on_disk

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
FILES = {"audio": ("a.wav", AUDIO), "input_reference": ("face.png", VIDEO)}
FIELDS = {
    *("id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at", "prompt"),
    *("seconds", "size", "remixed_from_video_id", "error"),
}


@pytest.fixture
def url(url: str) -> str:
    return f"{url}/v1"


def _create(http: httpx.Client, **fields: str) -> dict[str, Any]:
    answer = http.post("/videos", files=FILES, data={"prompt": "A woman speaks.", **fields})
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
    assert deleted.json() == {"id": video["id"], "object": "video.deleted", "deleted": True}
    assert http.get(path).status_code == http.delete(path).status_code == 404
    assert not on_disk(service.files, result_key(video["id"])).exists()


def test_models_of_other_services_get_the_default_engine(http: httpx.Client, service: MemoryService) -> None:
    for model in ("sora-2", "sora-2-pro", "nonesuch:gan"):
        assert _create(http, model=model)["model"] == service.requests[-1].options.engine == "warp"
    for model in ("wav2lip", "wav2lip:gan", "wav2lip:gan+restoration"):
        assert _create(http, model=model)["model"] == service.requests[-1].options.engine == model


def test_finished_video_has_size_and_thumbnail(http: httpx.Client, service: MemoryService, sample_video: Path) -> None:
    video_id = _create(http)["id"]
    path, query = f"/videos/{video_id}/content", {"variant": "thumbnail"}
    early = http.get(path, params=query)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "state_conflict")
    service.finish(video_id)
    on_disk(service.files, result_key(video_id)).write_bytes(sample_video.read_bytes())
    picture = http.get(path, params=query)
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert picture.content == http.get(f"/jobs/{video_id}/thumbnail").content and picture.content[:2] == b"\xff\xd8"
    width, _, height = http.get(f"/videos/{video_id}").json()["size"].partition("x")
    assert int(width) > 100 and int(height) > 100


def test_unknown_path_answers_openai_error(http: httpx.Client, service: MemoryService) -> None:
    for method, path, status, code in (
        ("POST", "/videos/x/remix", 404, "not_found"),
        ("GET", "/videos/x/y/z", 404, "not_found"),
        ("POST", "/videos/edits", 405, "method_not_allowed"),
        ("PUT", "/videos", 405, "method_not_allowed"),
    ):
        answer = http.request(method, path)
        message = f"{method} /v1{path} does not exist."
        expected = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        assert (answer.status_code, answer.json()) == (status, {"error": expected})
        assert ("allow" in answer.headers) == (status == 405)
    assert http.get("/nothing").json()["status"] == 404, "other paths answer with a problem"
    service.is_broken = True
    broken = http.get("/videos/x")
    assert (broken.status_code, broken.json()["error"]["type"]) == (500, "server_error")


def test_failed_and_cancelled_videos_have_an_error(http: httpx.Client, service: MemoryService) -> None:
    failed, cancelled = _create(http)["id"], _create(http)["id"]
    service.fail(failed, FaceNotFoundError("face.png: expected a face, found none."))
    http.delete(f"/jobs/{cancelled}")
    error = {"code": "face_not_found", "message": "face.png: expected a face, found none."}
    assert http.get(f"/videos/{failed}").json().items() >= {"status": "failed", "error": error}.items()
    assert http.get(f"/videos/{cancelled}").json()["error"]["code"] == "cancelled"
    unfinished = _create(http)["id"]
    assert http.delete(f"/videos/{unfinished}").json()["deleted"] is True
    assert http.get(f"/jobs/{unfinished}").status_code == 404


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
    assert unknown.status_code == 404, "no endless first page"
    assert unknown.json()["error"]["message"].startswith("after")
    assert http.get("/videos", params={"after": ids[-1]}).json()["last_id"] is None


def test_unusable_forms(http: httpx.Client, service: MemoryService) -> None:
    cases: list[Any] = [
        ({"audio": ("a.wav", AUDIO)}, {}, "input_reference"),
        ({"input_reference": ("v.mp4", VIDEO)}, {}, "audio"),
        ({"audio": ("a.wav", AUDIO)}, {"avatar_id": "0" * 32, "input_reference_url": "https://a.example/v"}, ""),
        (FILES, {"face": "x" * 200}, "face"),
        (FILES, {"colour": "blue"}, "colour"),
    ]
    for files, data, named in cases:
        answer = http.post("/videos", files=files, data=data)
        assert answer.status_code == 422 and named in answer.json()["error"]["message"], answer.text
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
        assert service.uploads() == []
    assert http.get("/videos", params={"limit": 0}).json()["error"]["type"] == "invalid_request_error"


REFERENCE = ("face.mp4", b"mp4!" + bytes(9000), "video/mp4")
SPEECH = f"data:application/octet-stream;base64,{base64.b64encode(AUDIO).decode()}"


@pytest.fixture
def sdk(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)  # a proxy cannot reach this machine's loopback
    return _sdk(url)


def _sdk(url: str, key: str = "none") -> Any:
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60)


def _create_by_sdk(sdk: Any, **fields: Any) -> Any:
    return sdk.videos.create(
        prompt="She speaks.", model="warp", input_reference=REFERENCE, extra_body={"audio": SPEECH}, **fields
    )


def test_sdk_creates_polls_downloads_and_deletes(sdk: Any, service: MemoryService, tmp_path: Path) -> None:
    video = _create_by_sdk(sdk, extra_headers={"Idempotency-Key": "k"})
    assert (video.object, video.model, video.status, video.progress) == ("video", "warp", "queued", 0)
    (request,) = service.requests
    assert request.video is not None and request.video.label == "face.mp4"
    assert on_disk(service.files, job_file_key(video.id)).read_bytes() == AUDIO
    assert _create_by_sdk(sdk, extra_headers={"Idempotency-Key": "k"}).id == video.id
    service.finish(video.id)
    done = sdk.videos.poll(video.id, poll_interval_ms=10)
    assert (done.status, done.progress) == ("completed", 100) and done.completed_at >= done.created_at
    sdk.videos.download_content(video.id).write_to_file(tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
    assert [one.id for one in sdk.videos.list(limit=1)] == [video.id]
    assert sdk.videos.delete(video.id).deleted is True
    assert list(sdk.videos.list()) == []


def test_sdk_raises_its_own_errors(sdk: Any, service: MemoryService) -> None:
    key, speech = {"Idempotency-Key": "k"}, {"audio": SPEECH}
    video = _create_by_sdk(sdk, extra_headers=key)
    with pytest.raises(openai.ConflictError, match="has no video") as early:
        sdk.videos.download_content(video.id)
    assert early.value.code == "state_conflict"
    with pytest.raises(openai.UnprocessableEntityError, match="loop") as bad:
        sdk.videos.create(prompt="x", extra_body={**speech, "loop": "sideways"}, input_reference=REFERENCE)
    assert (bad.value.code, bad.value.type) == ("option_invalid", "invalid_request_error")
    with pytest.raises(openai.UnprocessableEntityError) as reused:
        sdk.videos.create(prompt="y", extra_body=speech, extra_headers=key, input_reference=REFERENCE)
    assert reused.value.code == "idempotency_key_reused"
    with pytest.raises(openai.NotFoundError):
        sdk.videos.remix(video.id, prompt="Smile.")
    service.is_full = True
    with pytest.raises(openai.RateLimitError) as full:
        _create_by_sdk(sdk)
    assert (full.value.type, full.value.response.headers["retry-after"]) == ("rate_limit_error", "7")


def test_sdk_sends_its_key(sdk: Any, url: str, service: MemoryService) -> None:
    _, key = FileKeyRing(service.files.root).add("sdk")
    assert list(_sdk(url, key).videos.list()) == []
    with pytest.raises(openai.AuthenticationError) as refused:
        _sdk(url, "wrong").videos.list()
    assert (refused.value.code, refused.value.type) == ("unauthorized", "invalid_request_error")
