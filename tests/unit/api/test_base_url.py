"""Links: whole addresses where a trusted proxy says how, else paths."""

from __future__ import annotations

import json

import httpx
import pytest
from pydantic import ValidationError

from api.v1.protocol import webhook_view
from config import AccessConfig
from net.access_rule import AccessRule
from storage.local.api_keys import FileKeyRing
from tests.unit.api.edge_client import VIDEO, post
from tests.unit.api_server import MemoryService


class TestLinks:
    OUTSIDE = {"x-forwarded-proto": "https", "x-forwarded-host": "lips.example", "x-forwarded-prefix": "/lip"}

    def _answers(self, http: httpx.Client, service: MemoryService, headers: dict[str, str]) -> list[str]:
        """What the links of all answers begin with."""
        _, key = FileKeyRing(service.files.root).add("proxy")  # without one, nobody comes in through a proxy
        headers = {**headers, "x-api-key": key}
        job = post(http, headers=headers)
        avatar = http.post("/v1/avatars", files={"video": ("v", VIDEO)}, headers=headers)
        listed = http.get("/v1/jobs", headers=headers).json()["jobs"][0]
        record = service.table.get_job(job.json()["id"])
        service.finish(record.id)
        events = http.get(f"/v1/jobs/{record.id}/events", headers=headers).text
        status = json.loads(next(line for line in events.splitlines() if line.startswith("data: "))[6:])
        service_itself = http.get("/", headers={**headers, "accept": "application/json"}).json()["links"]["jobs"]
        servers = http.get("/openapi.json", headers=headers).json().get("servers", [{"url": ""}])
        links = [
            service_itself,
            f"{servers[0]['url']}/v1/",
            job.headers["location"],
            listed["links"]["self"],
            status["links"]["video"],
            webhook_view(record)["links"]["source"],
            avatar.headers["location"],
            avatar.json()["links"]["source"],
        ]
        return [link.partition("/v1/")[0] for link in links]

    @pytest.mark.parametrize("api_settings", [{"access": AccessConfig(trusted_proxies=("127.0.0.0/8",))}])
    def test_they_are_whole_where_a_trusted_proxy_says_how(self, http: httpx.Client, service: MemoryService) -> None:
        assert self._answers(http, service, self.OUTSIDE) == ["https://lips.example/lip"] * 8

    def test_they_are_paths_where_nobody_is_trusted(self, http: httpx.Client, service: MemoryService) -> None:
        assert self._answers(http, service, self.OUTSIDE) == [""] * 8

    @pytest.mark.parametrize("api_settings", [{"access": AccessConfig(trusted_proxies=("10.0.0.0/8", "127.0.0.1"))}])
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"x-forwarded-proto": "https", "host": "lips.example:8443"}, "https://lips.example:8443"),
            ({"x-forwarded-proto": "https", "x-forwarded-host": "evil.example, lips.example"}, "https://lips.example"),
            ({"x-forwarded-host": "lips.example"}, ""),
            ({"x-forwarded-proto": "javascript", "x-forwarded-host": "lips.example"}, ""),
            ({"x-forwarded-proto": "https", "x-forwarded-host": "a@b/<script>"}, ""),
            ({"x-forwarded-proto": "https", "x-forwarded-prefix": "//evil.example"}, ""),
            ({"x-forwarded-proto": "https", "x-lipwright-front": "203.0.113.9 1.1"}, ""),
            (
                {"x-forwarded-proto": "https", "host": "a.example", "x-lipwright-front": "10.1.2.3 1.1"},
                "https://a.example",
            ),
        ],
    )
    def test_what_is_believed(
        self, http: httpx.Client, service: MemoryService, headers: dict[str, str], expected: str
    ) -> None:
        assert self._answers(http, service, headers) == [expected] * 8

    def test_an_ipv4_peer_of_a_socket_for_both_versions(self) -> None:
        rule = AccessRule(False, False, ("10.0.0.0/8",))
        assert [rule.trusts(peer) for peer in ("::ffff:10.1.2.3", "::ffff:11.1.2.3", "nobody", "")] == [
            True,
            False,
            False,
            False,
        ]

    def test_networks_are_networks(self) -> None:
        with pytest.raises(ValidationError):
            AccessConfig(trusted_proxies=("proxy.example",))
