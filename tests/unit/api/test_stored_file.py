"""Downloads of files that lie in a bucket: through the API in whole and in ranges, or by a redirect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from config import BucketConfig, PipelineConfig
from storage.file_keys import result_key, source_key
from storage.state import open_files
from tests.s3_server import S3Server
from tests.unit.api_server import VIDEO_BYTES, MemoryService, serving

FILES = {"audio": ("a talk.wav", b"RIFF" + bytes(64)), "video": ("anna.png", b"\x89PNG\r\n\x1a\n" + bytes(64))}


class Service:
    """A service in memory with its files in a bucket, one finished job, and a client."""

    def __init__(self, service: MemoryService, http: httpx.Client) -> None:
        self.service, self.http = service, http
        self.job_id = str(http.post("/v1/jobs", files=FILES).json()["id"])
        service.finish(self.job_id)
        self.url = f"/v1/jobs/{self.job_id}/video"


@pytest.fixture(params=[False, True], ids=["streamed", "redirected"])
def redirects(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def running(s3: S3Server, tmp_path: Path, redirects: bool) -> Iterator[Service]:
    config = PipelineConfig(data_dir=tmp_path, files=s3.new_bucket(), bucket=BucketConfig(redirects=redirects))
    service = MemoryService(tmp_path, open_files(config))
    with serving(service) as url, httpx.Client(base_url=url, timeout=20, trust_env=False) as http:
        yield Service(service, http)


def test_a_video_comes_whole(running: Service, redirects: bool) -> None:
    answer = running.http.get(running.url, follow_redirects=True)
    assert (answer.status_code, answer.content) == (200, VIDEO_BYTES)
    assert answer.headers["content-type"] == "video/mp4"
    assert [each.status_code for each in answer.history] == ([307] if redirects else [])


def test_a_video_comes_in_ranges(running: Service, redirects: bool) -> None:
    for field, expected in (("bytes=10-19", VIDEO_BYTES[10:20]), ("bytes=-7", VIDEO_BYTES[-7:])):
        answer = running.http.get(running.url, headers={"Range": field}, follow_redirects=True)
        assert (answer.status_code, answer.content) == (206, expected)
        assert answer.headers["content-range"].endswith(f"/{len(VIDEO_BYTES)}")


def test_a_video_that_is_saved_has_its_name(running: Service) -> None:
    answer = running.http.get(running.url, params={"download": "true"})
    assert (answer.status_code, answer.content) == (200, VIDEO_BYTES), "a redirect could not say it"
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''a%20talk.mp4"


@pytest.mark.parametrize("redirects", [False], indirect=True, ids=["streamed"])
def test_streams_know_conditions_and_ends(running: Service) -> None:
    whole = running.http.get(running.url)
    tag = whole.headers["etag"]
    assert running.http.get(running.url, headers={"If-None-Match": tag}).status_code == 304
    head = running.http.head(running.url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(VIDEO_BYTES)), b"")
    stale = running.http.get(running.url, headers={"Range": "bytes=0-3", "If-Range": '"another"'})
    assert (stale.status_code, stale.content) == (200, VIDEO_BYTES)
    late = running.http.get(running.url, headers={"Range": f"bytes={len(VIDEO_BYTES)}-"})
    assert (late.status_code, late.json()["code"]) == (416, "range_not_satisfiable")
    several = running.http.get(running.url, headers={"Range": "bytes=0-3,8-9"})
    assert (several.status_code, several.content) == (200, VIDEO_BYTES)
    running.service.files.stored.remove(result_key(running.job_id))
    assert running.http.get(running.url).json()["code"] == "not_found"


def test_a_source_is_what_was_sent(running: Service) -> None:
    job = running.service.table.get_job(running.job_id)
    assert job.spec is not None and job.spec.video is not None
    running.service.files.take_upload(job.spec.video.key, source_key(job.avatar_key))
    answer = running.http.get(f"/v1/jobs/{running.job_id}/source", follow_redirects=True)
    assert answer.content == FILES["video"][1]
