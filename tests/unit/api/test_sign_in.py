"""Signing in: a cookie stands for an API key, for pages of this service and nobody else's."""

from __future__ import annotations

import time

import httpx
import pytest

from api.session_token import COOKIE, MAX_AGE_S, new_token
from storage.key_ring import ApiKey
from storage.local.api_keys import FileKeyRing
from tests.unit.api_server import MemoryService


@pytest.fixture
def keys(service: MemoryService) -> FileKeyRing:
    return FileKeyRing(service.files.root)


@pytest.fixture
def made(keys: FileKeyRing) -> tuple[ApiKey, str]:
    return keys.add("a studio")


def _own(http: httpx.Client) -> dict[str, str]:
    return {"origin": str(http.base_url).rstrip("/")}


def test_without_keys_nobody_signs_in(http: httpx.Client) -> None:
    assert http.get("/v1/session").json() == {"needs_key": False, "name": None}
    answer = http.post("/v1/session")
    assert (answer.status_code, answer.headers.get("set-cookie")) == (200, None)


def test_one_key_opens_the_page_without_a_header(http: httpx.Client, made: tuple[ApiKey, str]) -> None:
    assert http.get("/v1/session").status_code == 401
    assert http.post("/v1/session", headers={"authorization": "Bearer lw_no"}).status_code == 401
    answer = http.post("/v1/session", headers={"authorization": f"Bearer {made[1]}", **_own(http)})
    assert answer.json() == {"needs_key": True, "name": "a studio"}
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict", f"Max-Age={MAX_AGE_S}"} <= set(cookie.split("; "))
    assert "Secure" not in cookie and made[1] not in cookie
    assert http.get("/v1/jobs").status_code == 200, "what `<video src>` and EventSource send is enough"
    assert http.delete("/v1/session", headers=_own(http)).status_code == 204
    assert http.get("/v1/jobs").status_code == 401


def test_behind_tls_the_cookie_travels_over_tls_only(http: httpx.Client, made: tuple[ApiKey, str]) -> None:
    headers = {"authorization": f"Bearer {made[1]}", "x-forwarded-proto": "https"}
    assert "Secure" in http.post("/v1/session", headers=headers).headers["set-cookie"].split("; ")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "{own}"}, 404),
        ({"sec-fetch-site": "same-origin", "origin": "https://proxied.example"}, 404),
        ({}, 403),
        ({"origin": "https://page.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"sec-fetch-site": "same-site", "origin": "{own}"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_only_its_own_page_changes_anything(
    http: httpx.Client, made: tuple[ApiKey, str], headers: dict[str, str], status: int
) -> None:
    http.cookies.set(COOKIE, new_token(made[0]))
    filled = {name: value.format(own=_own(http)["origin"]) for name, value in headers.items()}
    assert http.delete(f"/v1/jobs/{'0' * 32}", headers=filled).status_code == status
    assert http.get("/v1/jobs", headers=filled).status_code == 200


def test_a_token_that_does_not_hold_is_refused(
    http: httpx.Client, keys: FileKeyRing, made: tuple[ApiKey, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, _ = keys.add("another")
    token = new_token(made[0])
    key_id, expires, signature = token.split(".")
    long_ago = time.time() - MAX_AGE_S - 9
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: long_ago)
        old = new_token(made[0])
    for wrong in (
        f"{other.id}.{expires}.{signature}",
        f"{key_id}.{int(expires) + 1}.{signature}",
        f"{key_id}.{expires}.",
        f"{key_id}.x.{signature}",
        "é" * 3,
        "..",
        key_id,
        old,
    ):
        answer = http.get("/v1/jobs", headers={b"cookie": f"{COOKIE}={wrong}".encode()})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), wrong
    held = {"cookie": f"{COOKIE}={token}"}
    assert http.get("/v1/jobs", headers=held).status_code == 200
    keys.revoke(made[0].id)
    assert http.get("/v1/jobs", headers=held).status_code == 401
