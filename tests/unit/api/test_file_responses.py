"""Responses with files: 304 for clients that have them, ranges (RFC 9110), and files in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from config import BucketConfig, PipelineConfig
from storage.file_keys import result_key, source_key
from storage.state import open_files
from tests.s3_server import S3Server
from tests.unit.api.edge_client import finished, post, problem
from tests.unit.api_server import VIDEO_BYTES, MemoryService, serving
from tests.unit.on_disk import on_disk


class TestConditionalRequests:
    @pytest.mark.parametrize("path", ["video", "source"])
    def test_files(self, http: httpx.Client, service: MemoryService, path: str) -> None:
        job_id = finished(http, service)
        key = service.table.get_job(job_id).avatar_key
        on_disk(service.files, source_key(key)).write_bytes(VIDEO_BYTES)
        self._check(http, f"/v1/jobs/{job_id}/{path}")

    @pytest.mark.parametrize("path", ["/openapi.json", "/"])
    def test_what_belongs_to_the_service(self, http: httpx.Client, path: str) -> None:
        self._check(http, path)
        page = http.get("/").text
        assets = [part.split('"')[0] for part in page.split('="') if part.startswith("/page/")]
        self._check(http, assets[0])

    def test_pictures(self, http: httpx.Client, service: MemoryService, sample_video: Path) -> None:
        job_id = finished(http, service)
        on_disk(service.files, result_key(job_id)).write_bytes(sample_video.read_bytes())
        self._check(http, f"/v1/jobs/{job_id}/thumbnail")
        self._check(http, f"/v1/jobs/{job_id}/preview")
        rendering = post(http, headers={}).json()["id"]
        with http.stream("GET", f"/v1/jobs/{rendering}/preview") as growing:
            assert "etag" not in growing.headers
            service.table.update_job(rendering, status="cancelled")

    def test_a_video_counts_by_time_too(self, http: httpx.Client, service: MemoryService) -> None:
        path = f"/v1/jobs/{finished(http, service)}/video"
        changed = http.get(path).headers["last-modified"]
        assert http.get(path, headers={"if-modified-since": changed}).status_code == 304
        for other in ("Thu, 01 Jan 1998 00:00:00 GMT", "yesterday"):
            assert http.get(path, headers={"if-modified-since": other}).status_code == 200
        both = {"if-modified-since": changed, "if-none-match": '"another"'}
        assert http.get(path, headers=both).status_code == 200, "RFC 9110, 13.1.3: the tag alone counts"

    @staticmethod
    def _check(http: httpx.Client, path: str) -> None:
        whole = http.get(path)
        etag = whole.headers["etag"]
        for known in (etag, f'"x", W/{etag}', "*"):
            answer = http.get(path, headers={"if-none-match": known, "range": "bytes=0-1"})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag), known
            assert answer.headers["cache-control"] == whole.headers["cache-control"]
        assert http.get(path, headers={"if-none-match": '"x"'}).content == whole.content


class TestRanges:
    @pytest.fixture
    def path(self, http: httpx.Client, service: MemoryService) -> str:
        return f"/v1/jobs/{finished(http, service)}/video"

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ("bytes=5-6", VIDEO_BYTES[5:7]),
            ("BYTES = 5-6", VIDEO_BYTES[5:7]),
            ("bytes=-3", VIDEO_BYTES[-3:]),
            (f"bytes=0-1,{len(VIDEO_BYTES)}-", VIDEO_BYTES[:2]),
            ("bytes=0-99999999999999999999", None),
            ("seconds=0-1", None),
            ("bytes=7-5", None),
            ("bytes=a-b", None),
            ("bytes 0-1", None),
            ("items", None),
        ],
    )
    def test_what_is_understood_is_sent(
        self, http: httpx.Client, path: str, asked: str, expected: bytes | None
    ) -> None:
        answer = http.get(path, headers={"range": asked})
        status = 200 if expected is None else 206
        assert (answer.status_code, answer.content) == (status, expected or VIDEO_BYTES), "RFC 9110, 14.2"

    @pytest.mark.parametrize("asked", [f"bytes={len(VIDEO_BYTES)}-", "bytes=-0", "bytes=99999-,999999-9999999"])
    def test_what_lies_behind_the_end_is_a_problem(self, http: httpx.Client, path: str, asked: str) -> None:
        answer = http.get(path, headers={"range": asked})
        assert asked[:9] in problem(answer, 416, "range_not_satisfiable")["detail"]
        assert answer.headers["content-range"] == f"bytes */{len(VIDEO_BYTES)}"

    def test_openais_form_of_it(self, http: httpx.Client, path: str) -> None:
        content = f"/v1/videos/{path.split('/')[3]}/content"
        answer = http.get(content, headers={"range": "bytes=99999-"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (416, "range_not_satisfiable")
        assert answer.headers["content-range"] == f"bytes */{len(VIDEO_BYTES)}"

    def test_a_range_of_what_has_changed_is_the_whole(self, http: httpx.Client, path: str) -> None:
        headers = http.get(path).headers
        for condition in (headers["etag"], headers["last-modified"]):
            part = http.get(path, headers={"range": "bytes=5-6", "if-range": condition})
            assert (part.status_code, part.content) == (206, VIDEO_BYTES[5:7])
        for condition in ('"other"', f"W/{headers['etag']}", "Thu, 01 Jan 1998 00:00:00 GMT"):
            for asked in ("bytes=5-6", "bytes=99999-"):
                whole = http.get(path, headers={"range": asked, "if-range": condition})
                assert (whole.status_code, whole.content) == (200, VIDEO_BYTES)


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
