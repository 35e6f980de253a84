"""Who is let in: with keys, without keys, through proxies, and from another site's page in a local browser."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from api.access import ApiKeyMiddleware, caller_of
from config import AccessConfig
from net.access_rule import FRONT_HEADER
from storage.local.api_keys import FileKeyRing
from storage.state import open_keys

HERE = ("127.0.0.1", 5000)
ELSEWHERE = ("203.0.113.7", 5000)
ALLOWED = "https://app.example"


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
    made, key = FileKeyRing(tmp_path).add("a studio")
    for client in (HERE, ELSEWHERE, None):
        answer = _call(tmp_path, client=client, allow=True)
        assert "Bearer" in _refused(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": f"Bearer {key}"}, {"authorization": f"bearer  {key}"}, {"x-api-key": key}):
            assert _call(tmp_path, client=client, headers=headers).json() == {"owner": made.id, "max_priority": 0}
    for headers in (
        {"authorization": f"Basic {key}"},
        {"authorization": "Bearer"},
        {"x-api-key": key[:-1]},
        {"x-api-key": "lw__"},
    ):
        _refused(_call(tmp_path, headers=headers), 401, "unauthorized")


def test_keys_that_cannot_be_asked_for_let_nobody_in() -> None:
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


def test_a_revoked_key_is_refused_at_once(tmp_path: Path) -> None:
    keys = FileKeyRing(tmp_path)
    keys.add("another")
    made, key = keys.add("a studio")
    assert _call(tmp_path, headers={"x-api-key": key}).status_code == 200
    keys.revoke(made.id)
    _refused(_call(tmp_path, headers={"x-api-key": key}), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json", "/static-offline-docs/x.js", "/"])
def test_signs_of_life_and_the_description_stay_open(tmp_path: Path, path: str) -> None:
    assert _call(tmp_path, path, client=ELSEWHERE).status_code == 200
    FileKeyRing(tmp_path).add("a studio")
    assert _call(tmp_path, path, client=ELSEWHERE).status_code == 200


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/status", "/v2", "/healthz/", "/lip/v1/jobs"])
def test_all_else_is_closed(tmp_path: Path, path: str) -> None:
    _refused(_call(tmp_path, path, client=ELSEWHERE), 403, "forbidden")
    FileKeyRing(tmp_path).add("a studio")
    _refused(_call(tmp_path, path), 401, "unauthorized")


def test_behind_a_prefix_the_same_is_open(tmp_path: Path) -> None:
    assert _call(tmp_path, "/lip/healthz", client=ELSEWHERE).status_code == 200


@pytest.mark.parametrize("client", [HERE, ["127.0.0.1", 1], ("::1", 1), ("::ffff:127.0.0.1", 1), ("127.8.9.1", 1)])
def test_without_keys_this_machine_is_served(tmp_path: Path, client: Any) -> None:
    assert _call(tmp_path, client=client).json() == {"owner": None, "max_priority": 1}
    for base_url in ("http://localhost:8000", "http://[::1]:8000"):
        assert _call(tmp_path, client=client, base_url=base_url).status_code == 200
    assert _call(tmp_path, client=client, headers={"origin": "http://localhost:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        (ELSEWHERE, {}),
        (("10.0.0.1", 1), {}),
        (None, {}),
        (("localhost.example", 1), {}),
        (HERE, {"x-forwarded-for": "203.0.113.7"}),
        (HERE, {"x-forwarded-for": "127.0.0.1"}),
        (HERE, {"forwarded": "for=127.0.0.1"}),
        (HERE, {"via": "1.1 proxy"}),
        (HERE, {"x-forwarded-proto": "https"}),
        (HERE, {"cf-connecting-ip": "203.0.113.7"}),
        (HERE, {"x-real-ip": "127.0.0.1"}),
        (HERE, {"true-client-ip": "127.0.0.1"}),
        (HERE, {"x-client-ip": "127.0.0.1"}),
        (HERE, {"x-amzn-trace-id": "Root=1"}),
        (HERE, {"x-envoy-external-address": "203.0.113.7"}),
        (HERE, {"tailscale-user-login": "a"}),
        (HERE, {"cdn-loop": "cloudflare"}),
        (HERE, {FRONT_HEADER: "203.0.113.7 1.1"}),
        (HERE, {FRONT_HEADER: "127.0.0.1 1.0"}),
        (HERE, {FRONT_HEADER: ""}),
        (ELSEWHERE, {FRONT_HEADER: "127.0.0.1 1.1"}),
        (ELSEWHERE, {"x-forwarded-for": "127.0.0.1"}),
        (HERE, {"host": "rebound.example:8000"}),
        (HERE, {"host": "["}),
        (HERE, {"origin": "https://page.example"}),
        (HERE, {"origin": "null"}),
        (HERE, {"origin": "http://127.0.0.1:3000"}),
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


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_through_our_own_front_this_machine_is_served(tmp_path: Path, peer: str) -> None:
    assert _call(tmp_path, headers={FRONT_HEADER: f"{peer} 1.1"}).status_code == 200


@pytest.mark.parametrize("name", ["user-agent", "accept", "x-request-id", "x-api-key", "range", "x-requested-with"])
def test_what_local_programs_send_is_no_sign_of_a_proxy(tmp_path: Path, name: str) -> None:
    assert _call(tmp_path, headers={name: "a"}).status_code == 200


def test_behind_haproxy_nobody_counts_as_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    _refused(_call(tmp_path), 403, "forbidden")
    assert _call(tmp_path, allow=True).status_code == 200
