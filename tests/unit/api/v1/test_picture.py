"""The options of the picture: backgrounds, framing and file formats."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from storage.file_keys import UPLOADS
from tests.unit.api_server import MemoryService

FILES = {"video": ("me.mp4", b"film"), "audio": ("a.wav", b"sound")}


def test_picture_options_reach_the_job(http: httpx.Client, service: MemoryService) -> None:
    sent = {"size": "1080x1920", "fps": "30", "format": "webm", "matte": "chroma", "background_loop": "hold"}
    sent["quality"] = "best"
    answer = http.post("/v1/jobs", files={**FILES, "background_file": ("beach.mp4", b"beach")}, data=sent)
    assert answer.status_code == 202, answer.text
    options = answer.json()["options"]
    assert {name: options[name] for name in sent} == {**sent, "fps": 30.0}
    (request,) = service.requests
    assert request.background_file is not None and request.background_file.label == "beach.mp4"


def test_request_digest_includes_background_and_crop(http: httpx.Client) -> None:
    def send(content: bytes, **options: str) -> httpx.Response:
        files = {**FILES, "background_file": ("b.png", content)}
        return http.post("/v1/jobs", files=files, data=options, headers={"Idempotency-Key": "key"})

    first = send(b"beach").json()["id"]
    assert send(b"beach").json()["id"] == first
    for other in (send(b"street"), send(b"beach", crop="9:16")):
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"background": "blur"}, "background or background_file, not both"),
        ({"background_id": "0" * 32}, "background_id or background_file, not both"),
        ({"size": "12x12"}, "at least 64 pixels"),
        ({"crop": "16/9"}, "WIDTH:HEIGHT"),
        ({"fps": "0"}, "fps"),
        ({"format": "gif"}, "format"),
    ],
)
def test_invalid_picture_options_store_no_upload(
    http: httpx.Client, service: MemoryService, fields: dict[str, str], message: str
) -> None:
    answer = http.post("/v1/jobs", files={**FILES, "background_file": ("b.png", b"beach")}, data=fields)
    assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid")
    assert message in answer.json()["detail"]
    assert not service.requests and not service.files.stored.entries(UPLOADS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"background": "transparent"}, "format webm or mov"),
        ({"background_loop": "hold"}, "needs background_file"),
        ({"matte": "person"}, "needs background, background_file or background_id"),
        ({"background_file": "http://127.0.0.1:1/beach.png"}, "background_file"),
    ],
)
def test_picture_option_without_its_requirement_is_refused(
    http: httpx.Client, fields: dict[str, str], message: str
) -> None:
    answer = http.post("/v1/jobs", files=FILES, data=fields)
    assert 400 <= answer.status_code < 500 and message in answer.json()["detail"]


@pytest.mark.parametrize(
    ("name", "media_type"), [("mp4", "video/mp4"), ("webm", "video/webm"), ("mov", "video/quicktime")]
)
def test_result_has_media_type_and_name_of_its_format(
    http: httpx.Client, service: MemoryService, name: str, media_type: str
) -> None:
    job: dict[str, Any] = http.post("/v1/jobs", files=FILES, data={"format": name}).json()
    preview = http.get(f"/v1/jobs/{job['id']}").json()["links"]["preview"]
    assert (preview is not None) == (name == "mp4")
    service.finish(job["id"])
    answer = http.get(f"/v1/jobs/{job['id']}/video", params={"download": "true"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.headers["content-disposition"].endswith(f'a.{name}"')
    if name != "mp4":
        refused = http.get(f"/v1/jobs/{job['id']}/preview")
        assert (refused.status_code, refused.json()["code"]) == (409, "state_conflict")
