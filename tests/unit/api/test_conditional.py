"""Conditional requests: 304 for clients that have the content already."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from storage.file_keys import result_key, source_key
from tests.unit.api.edge_client import finished, post
from tests.unit.api_server import VIDEO_BYTES, MemoryService
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
