"""Ranges of files, as RFC 9110 has them."""

from __future__ import annotations

import httpx
import pytest

from tests.unit.api.edge_client import finished, problem
from tests.unit.api_server import VIDEO_BYTES, MemoryService


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
