"""Browser tokens on a real server: which requests they allow, to pages of which origins, and how many sessions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from lipwright.config import AccessConfig, LiveConfig, TtsConfig
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.storage.file_keys import avatar_picture_key
from lipwright.storage.local.api_keys import FileKeyRing
from tests.unit.api.live.live_parts import GreyAvatars
from tests.unit.api.live.test_routes import close_code, first
from tests.unit.api_server import MemoryService, serving
from tests.unit.job_records import avatar_record
from tests.unit.on_disk import on_disk

SITE, OTHER = "https://www.example.com", "https://other.example"
PREFLIGHT = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}


@dataclass
class Site:
    """A service with an API key, an avatar, and a web site that shows it; `http` sends the key."""

    service: MemoryService
    keys: FileKeyRing
    key: str
    avatar_id: str
    http: httpx.Client

    def token(self, **fields: Any) -> str:
        answer = self.http.post("/v1/tokens", json={"avatar_id": self.avatar_id, "origin": SITE, **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    def get(self, path: str, token: str, origin: str | None = SITE, method: str = "GET") -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} | ({} if origin is None else {"origin": origin})
        return self.http.request(method, path, headers=headers)

    @contextmanager
    def socket(
        self, token: str, query: str | None = None, path: str = "/v1/live", **options: Any
    ) -> Iterator[ClientConnection]:
        offered = [Subprotocol("lipwright.live"), Subprotocol(token)]
        address = str(self.http.base_url).replace("http", "ws", 1)
        query = f"avatar_id={self.avatar_id}" if query is None else query
        options = {"origin": SITE, "open_timeout": 30, **options}
        with connect(f"{address}{path}?{query}", subprotocols=offered, proxy=None, max_size=2**24, **options) as line:
            assert line.subprotocol == "lipwright.live"
            yield line

    def refusal(self, token: str, query: str | None = None, **options: Any) -> str:
        """Return the code and the message with which a socket is closed."""
        with self.socket(token, query, **options) as line:
            said = first(line, "error")
            assert close_code(line) == 1008
        return f"{said['code']}: {said['message']}"


@contextmanager
def site_with_avatar(root: Path, **settings: Any) -> Iterator[Site]:
    service, keys = MemoryService(root), FileKeyRing(root)
    made, key = keys.add("a site")
    avatar = service.table.put_avatar(avatar_record(owner=made.id, label="a", face="largest", status="ready"))
    live = GreyAvatars(service.table)
    live.admission = type(live.admission)(LiveConfig(max_sessions=8))
    with (
        serving(service, live=live, **settings) as url,
        httpx.Client(base_url=url, headers={"x-api-key": key}, timeout=60, trust_env=False) as http,
    ):
        yield Site(service, keys, key, avatar.id, http)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_with_avatar(tmp_path) as site:
        yield site


def test_token_opens_a_session_of_its_avatar(site: Site) -> None:
    answer = site.http.post("/v1/tokens", json={"avatar_id": site.avatar_id, "origin": [SITE], "expires_in": 60})
    left_s = time.mktime(time.strptime(answer.json()["expires_at"], "%Y-%m-%dT%H:%M:%SZ")) - time.mktime(time.gmtime())
    assert 50 < left_s <= 61
    assert (answer.headers["cache-control"], site.key in answer.text) == ("no-store", False)
    with site.socket(answer.json()["token"]) as line:
        assert first(line, "session.stream")


def test_post_tokens_invalid_fields_is_refused(site: Site) -> None:
    cases: list[Any] = [
        ({"avatar_id": "0" * 32}, 404, "There is no avatar"),
        ({"origin": "*"}, 422, "origin.0: expected a web origin"),
        ({"origin": "null"}, 422, "expected a web origin"),
        ({"origin": "https://www.example.com/shop"}, 422, "expected a web origin"),
        ({"origin": []}, 422, "origin"),
        ({"expires_in": 3601}, 422, "expires_in: must be less than or equal to 3600"),
        ({"max_sessions": 0}, 422, "max_sessions: must be greater than or equal to 1"),
        ({"actions": ["push"]}, 422, "actions.0"),
        ({"seconds": 9}, 422, "seconds: unknown field"),
        ({"voice": "heart"}, 422, "this service has no voice"),
    ]
    for fields, status, detail in cases:
        answer = site.http.post("/v1/tokens", json={"avatar_id": site.avatar_id, "origin": SITE, **fields})
        assert (answer.status_code, detail in answer.json()["detail"]) == (status, True), answer.text


def test_post_tokens_unknown_voice_is_refused(tmp_path: Path) -> None:
    with site_with_avatar(tmp_path, tts=TtsConfig()) as site:
        assert site.token(voice="heart")
        answer = site.http.post("/v1/tokens", json={"avatar_id": site.avatar_id, "origin": SITE, "voice": "nobody"})
    assert (answer.status_code, "voice: 'nobody' is not installed" in answer.json()["detail"]) == (422, True)


def test_post_tokens_without_api_keys_gets_409(http: httpx.Client, service: MemoryService) -> None:
    avatar = service.table.put_avatar(avatar_record(label="a", face="largest", status="ready"))
    answer = http.post("/v1/tokens", json={"avatar_id": avatar.id, "origin": SITE})
    assert (answer.status_code, "lipwright keys add" in answer.json()["detail"]) == (409, True)


def test_token_in_other_requests_gets_403(site: Site) -> None:
    token = site.token()
    requests = [("GET", "/v1/jobs"), ("POST", "/v1/tokens"), ("GET", f"/v1/avatars/{site.avatar_id}")]
    requests += [("GET", f"/v1/avatars/{'0' * 32}/thumbnail"), ("DELETE", f"/v1/avatars/{site.avatar_id}/thumbnail")]
    for method, path in requests:
        answer = site.get(path, token, method=method)
        assert (answer.status_code, "allows only" in answer.json()["detail"]) == (403, True), path
        assert "access-control-allow-origin" not in answer.headers
    assert "forbidden: The token allows only" in site.refusal(token, path="/v1/live/view")


def test_live_socket_with_invalid_token_says_why(site: Site) -> None:
    token = site.token()
    key, expires, payload, signature = token.split(".")
    for forged in (
        f"{key}.{expires}.{payload}.{'0' * 64}",
        f"{key}.{int(expires) + 1}.{payload}.{signature}",
        f"{key}.{expires}.{site.token(max_sessions=9).split('.')[2]}.{signature}",
        "lwt_",
    ):
        assert "unauthorized: The token is invalid" in site.refusal(forged)
    assert "forbidden: The token is not for pages of" in site.refusal(token, origin=OTHER)
    assert "forbidden: The token is only for web pages" in site.refusal(token, origin=None)
    assert "forbidden: The token is for another avatar." in site.refusal(token, f"avatar_id={'0' * 32}")
    for name, value in (("background", "blur"), ("session_id", "s")):
        refusal = site.refusal(token, f"avatar_id={site.avatar_id}&{name}={value}")
        assert f"forbidden: {name}: tokens allow only" in refusal
    short = site.token(expires_in=1)
    time.sleep(2.1)
    assert "unauthorized: The token has expired" in site.refusal(short)
    site.keys.add("another")
    site.keys.revoke(site.keys.list()[0].id)
    assert "unauthorized: The token is invalid; its API key may have been revoked." in site.refusal(token)


def test_live_socket_after_granted_seconds_or_sessions_ends(site: Site) -> None:
    token = site.token(max_sessions=1, max_session_seconds=1, max_seconds=3)
    with site.socket(token) as line:
        assert first(line, "session.ended")["message"] == "The session reached its maximum length (1 s)."
        assert close_code(line) == 1000
    assert "forbidden: The token has started all of its sessions (1)." in site.refusal(token)


def test_live_socket_refuses_actions_not_granted(site: Site) -> None:
    text = json.dumps({"type": "agent.speak_text", "text": "Hello."})
    messages: dict[str, str | bytes] = {"text": text, "audio": bytes(24_000)}
    for action, refused in (("text", "audio"), ("audio", "text")):
        with site.socket(site.token(actions=[action])) as line:
            first(line, "session.stream")
            line.send(messages[refused])
            assert first(line, "error")["message"] == f"The token does not allow {refused}."
            line.send(json.dumps({"type": "output.list"}))
            assert first(line, "error")["message"] == "The token does not allow outputs."
            line.send(json.dumps({"type": "agent.interrupt"}))
            line.send(messages[action])
            first(line, "agent.speak_started" if action == "audio" else "error")


@pytest.mark.parametrize("allowed_origins", [(), ("https://app.example",)])
def test_thumbnail_is_readable_by_the_origin_of_its_token(tmp_path: Path, allowed_origins: tuple[str, ...]) -> None:
    with site_with_avatar(tmp_path, access=AccessConfig(allowed_origins=allowed_origins)) as site:
        token, path = site.token(origin=[SITE, "https://EXAMPLE.com:443/"]), f"/v1/avatars/{site.avatar_id}/thumbnail"
        site.http.headers.pop("x-api-key")
        assert site.get(path, token).status_code == 404
        avatar = site.service.table.get_avatar(site.avatar_id)
        on_disk(site.service.files, avatar_picture_key(avatar.key)).write_bytes(b"JPEG")
        for origin in (SITE, "https://example.com"):
            asked = site.http.options(path, headers={"origin": origin, **PREFLIGHT})
            assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, origin)
            answer = site.get(path, token, origin)
            assert (answer.content, answer.headers["access-control-allow-origin"]) == (b"JPEG", origin)
            assert "access-control-allow-credentials" not in answer.headers
        same = site.http.get(path, headers={"authorization": f"Bearer {token}", "referer": f"{SITE}/"})
        assert (same.status_code, "access-control-allow-origin" in same.headers) == (200, False)
        for wrong in (OTHER, None):
            refused = site.get(path, token, wrong)
            assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (403, False)
        shown = AvatarSettings(background="blur")
        site.service.table.update_avatar(avatar.key, settings=shown)
        assert site.get(path, token).status_code == 404, "the picture shows what the background hides"
