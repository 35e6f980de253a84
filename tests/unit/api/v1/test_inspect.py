"""POST /v1/inspect: a file alone says whether it is synthetic, and which of the caller's jobs made it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.unit.api.edge_client import post, problem
from tests.unit.api_server import MemoryService
from tests.unit.media.watermark.marked_clip import IDENTIFIER, marked_lumas, unmarked_lumas, write_lumas


@pytest.mark.timeout(120)
def test_a_video_without_metadata_leads_to_its_job(http: httpx.Client, service: MemoryService, tmp_path: Path) -> None:
    mine = post(http, headers={}).json()["id"]
    post(http, headers={})
    service.table.update_job(mine, watermark_id=IDENTIFIER.hex())
    video = write_lumas(tmp_path / "a.mp4", marked_lumas(num_frames=120), 30).read_bytes()
    places, uploads = set(service.places), service.uploads()
    labels = http.post("/v1/inspect", files={"file": ("a.mp4", video)}).raise_for_status().json()
    assert (labels["verdict"], labels["aigc"], labels["c2pa"]) == ("synthetic", None, None)
    assert labels["watermark"]["identifier"] == IDENTIFIER.hex()
    assert labels["watermark"]["false_positive_rate"] < 1e-6
    assert [job["id"] for job in labels["jobs"]] == [mine]
    assert any(IDENTIFIER.hex() in sentence for sentence in labels["description"])
    assert (service.places, service.uploads()) == (places, uploads), "nothing of the request stays"


def test_inspect_unreadable_file_error_has_client_name(http: httpx.Client) -> None:
    refused = http.post("/v1/inspect", files={"file": ("my film.mp4", b"no film")})
    assert problem(refused, 422, "media_invalid")["detail"].startswith("my film.mp4: expected")


@pytest.mark.timeout(120)
def test_other_files(http: httpx.Client, service: MemoryService, tmp_path: Path) -> None:
    video = write_lumas(tmp_path / "a.mp4", unmarked_lumas(60), 30).read_bytes()
    labels = http.post("/v1/inspect", files={"file": ("a.mp4", video)}).raise_for_status().json()
    assert (labels["verdict"], labels["watermark"], labels["jobs"]) == ("unlabelled", None, [])
    refused = http.post("/v1/inspect", files={"file": ("a.txt", b"hello")})
    problem(refused, 422, "media_invalid")
    assert not service.uploads()
