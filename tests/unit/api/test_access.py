"""Who is let in: with keys, cookies or neither, through proxies, and from another site's page in a local browser."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from lipwright.api.access import ApiKeyMiddleware, caller_of
from lipwright.api.session_token import COOKIE, MAX_AGE_S, new_token
from lipwright.config import AccessConfig
from lipwright.net.access_rule import FRONT_HEADER
from lipwright.storage.key_ring import ApiKey
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright.storage.state import open_keys
from tests.unit.api_server import MemoryService

HERE = ("127.0.0.1", 5000)
ELSEWHERE = ("203.0.113.7", 5000)
ALLOWED = "https://app.example"
PROXY_HEADERS = (
    *("x-forwarded-for", "forwarded", "via", "x-forwarded-proto", "cf-connecting-ip", "x-real-ip", "true-client-ip"),
    *("x-client-ip", "x-amzn-trace-id", "x-envoy-external-address", "tailscale-user-login", "cdn-loop"),
)


def _call(
    root: Path,
    path: str = "/v1/jobs",
    client: Any = HERE,
    allow: bool = False,
    method: str = "GET",
    base_url: str = "http://127.0.0.1:8000",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """One request as the Ingress gets it from Ray Serve's proxy: `client` is what stands in the ASGI scope."""

    async def who(request: Request) -> JSONResponse:
        caller = caller_of(request)
        return JSONResponse({"owner": caller.owner, "max_priority": caller.max_priority})

    inner = Starlette(routes=[Route("/{path:path}", who, methods=["GET", "POST"])])
    settings = AccessConfig(allow_without_keys=allow, allowed_origins=(ALLOWED,))
    gate = ApiKeyMiddleware(inner, FileKeyRing(root), settings)
    app = Starlette(routes=[Mount("/lip", gate)]) if path.startswith("/lip/") else gate

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=client)
        async with httpx.AsyncClient(transport=transport, base_url=base_url) as http:
            return await http.request(method, path, headers=headers)

    return asyncio.run(call())


def _refused(answer: httpx.Response, status: int, code: str) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    return str(answer.json()["detail"])


def test_with_keys_everybody_needs_one(tmp_path: Path) -> None:
    keys = FileKeyRing(tmp_path)
    made, key = keys.add("a studio")
    for client in (HERE, ELSEWHERE, None):
        answer = _call(tmp_path, client=client, allow=True)
        assert "Bearer" in _refused(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": f"Bearer {key}"}, {"authorization": f"bearer  {key}"}, {"x-api-key": key}):
            assert _call(tmp_path, client=client, headers=headers).json() == {"owner": made.id, "max_priority": 0}
    wrong = [{"authorization": f"Basic {key}"}, {"authorization": "Bearer"}]
    for headers in (*wrong, {"x-api-key": key[:-1]}, {"x-api-key": "lw__"}):
        _refused(_call(tmp_path, headers=headers), 401, "unauthorized")
    keys.add("another")
    keys.revoke(made.id)
    _refused(_call(tmp_path, headers={"x-api-key": key}), 401, "unauthorized")


def test_key_ring_that_is_unreachable_answers_503() -> None:
    keys = open_keys("postgresql://lipwright@127.0.0.1:1/none", Path("none"))
    gate = ApiKeyMiddleware(Starlette(), keys, AccessConfig())

    async def call(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(gate, client=HERE)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return await http.get(path)

    answer = asyncio.run(call("/v1/jobs"))
    _refused(answer, 503, "job_table_unreachable")
    assert int(answer.headers["retry-after"]) >= 1
    assert asyncio.run(call("/healthz")).status_code == 404, "it came through"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json", "/static-offline-docs/x.js", "/"])
@pytest.mark.parametrize("prefix", ["", "/lip"])
def test_signs_of_life_and_the_description_stay_open(tmp_path: Path, prefix: str, path: str) -> None:
    assert _call(tmp_path, prefix + path, client=ELSEWHERE).status_code == 200
    FileKeyRing(tmp_path).add("a studio")
    assert _call(tmp_path, prefix + path, client=ELSEWHERE).status_code == 200


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/status", "/v2", "/healthz/", "/lip/v1/jobs"])
def test_all_else_is_closed(tmp_path: Path, path: str) -> None:
    _refused(_call(tmp_path, path, client=ELSEWHERE), 403, "forbidden")
    FileKeyRing(tmp_path).add("a studio")
    _refused(_call(tmp_path, path), 401, "unauthorized")


@pytest.mark.parametrize("client", [HERE, ["127.0.0.1", 1], ("::1", 1), ("::ffff:127.0.0.1", 1), ("127.8.9.1", 1)])
def test_without_keys_this_machine_is_served(tmp_path: Path, client: Any) -> None:
    assert _call(tmp_path, client=client).json() == {"owner": None, "max_priority": 1}
    for base_url in ("http://localhost:8000", "http://[::1]:8000"):
        assert _call(tmp_path, client=client, base_url=base_url).status_code == 200
    local: list[dict[str, str]] = [{"origin": "http://localhost:8000"}]
    local += [{FRONT_HEADER: f"{peer} 1.1"} for peer in ("127.0.0.1", "::1", "::ffff:127.0.0.1")]
    local += [
        {name: "a"} for name in ("user-agent", "accept", "x-request-id", "x-api-key", "range", "x-requested-with")
    ]
    for headers in local:
        assert _call(tmp_path, client=client, headers=headers).status_code == 200, headers


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        (ELSEWHERE, {}),
        (("10.0.0.1", 1), {}),
        (None, {}),
        (("localhost.example", 1), {}),
        *((HERE, {name: "203.0.113.7"}) for name in PROXY_HEADERS),
        *((HERE, {FRONT_HEADER: text}) for text in ("203.0.113.7 1.1", "127.0.0.1 1.0", "")),
        (ELSEWHERE, {FRONT_HEADER: "127.0.0.1 1.1"}),
        (ELSEWHERE, {"x-forwarded-for": "127.0.0.1"}),
        *((HERE, {"host": host}) for host in ("rebound.example:8000", "[")),
        *((HERE, {"origin": origin}) for origin in ("https://page.example", "null", "http://127.0.0.1:3000")),
        (HERE, {"origin": "http://localhost"}),
        (HERE, {"sec-fetch-site": "cross-site"}),
        (HERE, {"sec-fetch-site": "same-site", "sec-fetch-dest": "document"}),
        (HERE, {"sec-fetch-site": "cross-site", "referer": "http://127.0.0.1:8000/"}),
    ],
)
def test_without_keys_nobody_else_is(tmp_path: Path, client: Any, headers: dict[str, str]) -> None:
    detail = _refused(_call(tmp_path, client=client, method="POST", headers=headers), 403, "forbidden")
    assert "lipwright keys add" in detail
    assert "allow_without_keys" in detail
    assert _call(tmp_path, client=client, allow=True, headers=headers).json() == {"owner": None, "max_priority": 1}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "video", "referer": "https://page.example/x"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-dest": "script", "referer": "http://localhost:3000/"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe", "sec-fetch-mode": "navigate"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "document", "sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-site": "none", "sec-fetch-dest": "document"}, 200),
        ({"sec-fetch-site": "same-origin", "sec-fetch-dest": "empty"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "video", "referer": f"{ALLOWED}/x"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "empty", "origin": ALLOWED}, 200),
    ],
)
def test_pages_of_other_origins_embed_nothing(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    assert _call(tmp_path, headers=headers).status_code == status


def test_by_http_1_0_nobody_counts_as_local(tmp_path: Path) -> None:
    """Nginx adds nothing else if it is configured with `proxy_pass` alone."""

    async def call(version: str) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "http_version": version, "method": "GET", "path": "/v1/jobs", "headers": []}
        gate = ApiKeyMiddleware(
            Starlette(routes=[Route("/v1/jobs", lambda _: Response())]), FileKeyRing(tmp_path), AccessConfig()
        )
        await gate({**scope, "query_string": b"", "client": HERE}, receive, send)
        return int(sent[0]["status"])

    assert [asyncio.run(call(version)) for version in ("1.1", "1.0")] == [200, 403]


def test_behind_haproxy_nobody_counts_as_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    _refused(_call(tmp_path), 403, "forbidden")
    assert _call(tmp_path, allow=True).status_code == 200


Made = tuple[ApiKey, str]


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


def test_one_key_opens_the_page_without_a_header(http: httpx.Client, made: Made) -> None:
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
    headers = {"authorization": f"Bearer {made[1]}", "x-forwarded-proto": "https"}
    assert "Secure" in http.post("/v1/session", headers=headers).headers["set-cookie"].split("; ")


def test_only_own_page_changes_jobs(http: httpx.Client, made: Made) -> None:
    cases: list[Any] = [
        ({"origin": "{own}"}, 404),
        ({"sec-fetch-site": "same-origin", "origin": "https://proxied.example"}, 404),
        ({}, 403),
        ({"origin": "https://page.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"sec-fetch-site": "same-site", "origin": "{own}"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ]
    for headers, status in cases:
        http.cookies.set(COOKIE, new_token(made[0]))
        filled = {name: value.format(own=_own(http)["origin"]) for name, value in headers.items()}
        assert http.delete(f"/v1/jobs/{'0' * 32}", headers=filled).status_code == status
        assert http.get("/v1/jobs", headers=filled).status_code == 200


def test_a_token_that_does_not_hold_is_refused(
    http: httpx.Client, keys: FileKeyRing, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, _ = keys.add("another")
    token = new_token(made[0])
    key_id, expires, signature = token.split(".")
    long_ago = time.time() - MAX_AGE_S - 9
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: long_ago)
        old = new_token(made[0])
    forged = [f"{other.id}.{expires}.{signature}", f"{key_id}.{int(expires) + 1}.{signature}"]
    for wrong in (*forged, f"{key_id}.{expires}.", f"{key_id}.x.{signature}", "é" * 3, "..", key_id, old):
        answer = http.get("/v1/jobs", headers={b"cookie": f"{COOKIE}={wrong}".encode()})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), wrong
    held = {"cookie": f"{COOKIE}={token}"}
    assert http.get("/v1/jobs", headers=held).status_code == 200
    keys.revoke(made[0].id)
    assert http.get("/v1/jobs", headers=held).status_code == 401
