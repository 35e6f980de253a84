"""OpenAI's own Python SDK against `/v1/videos`."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from errors import FaceNotFoundError
from storage.file_keys import job_file_key, upload_key
from storage.local.api_keys import FileKeyRing
from tests.unit.api_server import VIDEO_BYTES, MemoryService
from tests.unit.on_disk import on_disk

openai = pytest.importorskip("openai", reason="the extra dev brings OpenAI's SDK")
VIDEO = ("face.mp4", b"mp4!" + bytes(9000), "video/mp4")
SPEECH = b"RIFF" + bytes(5000)


@pytest.fixture
def url(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)  # a proxy cannot reach this machine's loopback
    return f"{url}/v1"


def _sdk(url: str, key: str = "none") -> Any:
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60)


def _create(sdk: Any, **fields: Any) -> Any:
    return sdk.videos.create(
        prompt="She speaks.", model="warp", input_reference=VIDEO, extra_body={"audio": _data_url(SPEECH)}, **fields
    )


def _data_url(content: bytes) -> str:
    return f"data:application/octet-stream;base64,{base64.b64encode(content).decode()}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestSdk:
    def test_a_video_from_creation_to_deletion(self, url: str, service: MemoryService, tmp_path: Path) -> None:
        sdk = _sdk(url)
        video = _create(sdk, extra_headers={"Idempotency-Key": "k"})
        assert (video.object, video.model, video.status, video.progress) == ("video", "warp", "queued", 0)
        (request,) = service.requests
        assert request.video is not None and request.video.label == "face.mp4"
        assert on_disk(service.files, job_file_key(video.id)).read_bytes() == SPEECH
        assert _create(sdk, extra_headers={"Idempotency-Key": "k"}).id == video.id
        service.finish(video.id)
        done = sdk.videos.poll(video.id, poll_interval_ms=10)
        assert (done.status, done.progress) == ("completed", 100) and done.completed_at >= done.created_at
        sdk.videos.download_content(video.id).write_to_file(tmp_path / "out.mp4")
        assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
        assert [one.id for one in sdk.videos.list(limit=1)] == [video.id]
        assert sdk.videos.delete(video.id).deleted is True
        assert list(sdk.videos.list()) == []

    def test_an_avatar_that_is_known_or_named(self, url: str, service: MemoryService) -> None:
        sdk, speech = _sdk(url), {"audio": _data_url(SPEECH)}
        sdk.videos.create(prompt="x", extra_body={**speech, "avatar_id": "0" * 32})
        assert service.requests[-1].avatar_id == "0" * 32
        sdk.videos.create(prompt="x", extra_body={**speech, "input_reference": _data_url(b"jpeg" * 90)})
        (reference,) = [request.video for request in service.requests if request.video is not None]
        assert on_disk(service.files, upload_key(reference.key)).read_bytes() == b"jpeg" * 90

    def test_a_failed_video_says_why(self, url: str, service: MemoryService) -> None:
        service.outcome = FaceNotFoundError("face.mp4: expected a face, found none.")
        video = _sdk(url).videos.poll(_create(_sdk(url)).id)
        assert (video.status, video.error.code) == ("failed", "face_not_found")

    def test_errors_arrive_as_the_sdks_own(self, url: str, service: MemoryService) -> None:
        sdk = _sdk(url)
        video = _create(sdk, extra_headers={"Idempotency-Key": "k"})
        with pytest.raises(openai.ConflictError, match="has no video") as early:
            sdk.videos.download_content(video.id)
        assert early.value.code == "state_conflict"
        with pytest.raises(openai.NotFoundError):
            sdk.videos.retrieve("0" * 32)
        with pytest.raises(openai.UnprocessableEntityError, match="loop") as bad:
            sdk.videos.create(
                prompt="x", extra_body={"audio": _data_url(SPEECH), "loop": "sideways"}, input_reference=VIDEO
            )
        assert (bad.value.code, bad.value.type) == ("option_invalid", "invalid_request_error")
        with pytest.raises(openai.UnprocessableEntityError) as reused:
            sdk.videos.create(
                prompt="y",
                extra_body={"audio": _data_url(SPEECH)},
                extra_headers={"Idempotency-Key": "k"},
                input_reference=VIDEO,
            )
        assert reused.value.code == "idempotency_key_reused"
        with pytest.raises(openai.NotFoundError):
            sdk.videos.remix(video.id, prompt="Smile.")
        service.is_full = True
        with pytest.raises(openai.RateLimitError) as full:
            _create(sdk)
        assert full.value.response.headers["retry-after"] == "7"

    def test_keys(self, url: str, service: MemoryService) -> None:
        _, key = FileKeyRing(service.files.root).add("sdk")
        assert list(_sdk(url, key).videos.list()) == []
        with pytest.raises(openai.AuthenticationError) as refused:
            _sdk(url, "wrong").videos.list()
        assert (refused.value.code, refused.value.type) == ("unauthorized", "invalid_request_error")

    def test_a_broken_service(self, url: str, service: MemoryService) -> None:
        service.is_broken = True
        with pytest.raises(openai.InternalServerError):
            _sdk(url).videos.retrieve("0" * 32)
