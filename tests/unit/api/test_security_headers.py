"""Security headers, whatever answers."""

from __future__ import annotations

import httpx
import pytest

from tests.unit.api.edge_client import finished
from tests.unit.api_server import MemoryService


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
