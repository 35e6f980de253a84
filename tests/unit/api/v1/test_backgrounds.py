"""The routes of backgrounds on a real server."""

from __future__ import annotations

import httpx
import pytest

from errors import MediaLimitError
from storage.local.api_keys import FileKeyRing
from tests.unit.api_server import MAX_UPLOAD_BYTES, MemoryService, api_client

FILE = {"background_file": ("office.jpg", b"office")}


def test_a_background_is_sent_and_deleted(http: httpx.Client) -> None:
    sent = http.post("/v1/backgrounds", files=FILE)
    assert sent.status_code == 201, sent.text
    assert {name: sent.json()[name] for name in ("file", "width", "is_still")} == {
        "file": "office.jpg",
        "width": 64,
        "is_still": True,
    }
    in_json = http.post("/v1/backgrounds", json={"background_file": "data:image/jpeg;base64,b2ZmaWNl"})
    assert in_json.json()["id"] == sent.json()["id"], "the same content"
    path = f"/v1/backgrounds/{sent.json()['id']}"
    assert [http.delete(path).status_code for _ in range(2)] == [204, 404]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "option_invalid"),
        ({"background_file_url": "http://127.0.0.1:1/office.jpg"}, "url_refused"),
        ({"background_file_url": "file:///etc/passwd"}, "url_refused"),
        ({"background_file": "b2ZmaWNl" * 20, "matte": "person"}, "option_invalid"),
    ],
)
def test_what_is_not_allowed_is_refused(
    http: httpx.Client, service: MemoryService, fields: dict[str, str], code: str
) -> None:
    answer = http.post("/v1/backgrounds", json=fields)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert not service.uploads()


def test_limits_hold_as_for_jobs(http: httpx.Client, service: MemoryService) -> None:
    large = http.post("/v1/backgrounds", files={"background_file": ("b.mp4", bytes(2 * MAX_UPLOAD_BYTES))})
    assert (large.status_code, large.json()["code"]) == (413, "media_too_large")
    service.looked_at = MediaLimitError("office.jpg: too long")
    long = http.post("/v1/backgrounds", files=FILE)
    assert (long.status_code, long.json()["detail"]) == (413, "office.jpg: too long")
    service.is_full = True
    assert http.post("/v1/backgrounds", files=FILE).status_code == 429
    assert not service.uploads()


def test_backgrounds_belong_to_the_key_that_sent_them(service: MemoryService) -> None:
    keys = [FileKeyRing(service.files.root).add(name)[1] for name in ("a", "b")]
    with api_client(service) as http:
        first, second = ({"Authorization": f"Bearer {key}"} for key in keys)
        path = f"/v1/backgrounds/{http.post('/v1/backgrounds', files=FILE, headers=first).json()['id']}"
        assert http.delete(path).status_code == 401
        assert http.delete(path, headers=second).status_code == 404
        assert http.delete(path, headers=first).status_code == 204
