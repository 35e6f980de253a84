"""CORS: scripts of pages that the operator named, and of no others."""

from __future__ import annotations

import httpx
import pytest
from pydantic import ValidationError

from config import AccessConfig
from storage.local.api_keys import FileKeyRing
from tests.unit.api.edge_client import APP, post, problem
from tests.unit.api_server import MemoryService


class TestPagesElsewhere:
    PREFLIGHT = {
        "origin": APP,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, idempotency-key, content-type",
    }

    def test_none_are_let_in_unless_they_are_named(self, http: httpx.Client) -> None:
        assert "access-control-allow-origin" not in http.get("/healthz", headers={"origin": APP}).headers
        assert http.options("/v1/jobs", headers=self.PREFLIGHT).status_code in (403, 405)
        with pytest.raises(ValidationError):
            AccessConfig(allowed_origins=("https://app.example/path",))

    @pytest.mark.parametrize("api_settings", [{"access": AccessConfig(allowed_origins=(APP,))}])
    def test_a_named_one_uses_the_api_with_its_key(self, http: httpx.Client, service: MemoryService) -> None:
        assert http.get("/v1/jobs", headers={"origin": APP}).status_code == 200, "on this machine no key is needed"
        _, key = FileKeyRing(service.files.root).add("page")
        preflight = http.options("/v1/jobs", headers=self.PREFLIGHT)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, APP)
        assert "idempotency-key" in preflight.headers["access-control-allow-headers"].lower()
        assert "access-control-allow-credentials" not in preflight.headers
        refused = http.get("/v1/jobs", headers={"origin": APP})
        problem(refused, 401, "unauthorized")
        assert refused.headers["access-control-allow-origin"] == APP, "its script reads why"
        job = post(http, headers={"origin": APP, "authorization": f"Bearer {key}"})
        exposed = job.headers["access-control-expose-headers"].lower()
        assert job.status_code == 202
        assert {"location", "retry-after", "etag", "content-range"} <= {name.strip() for name in exposed.split(",")}
        service.is_broken = True
        broken = http.get(job.headers["location"], headers={"origin": APP, "authorization": f"Bearer {key}"})
        assert (broken.status_code, broken.headers["access-control-allow-origin"]) == (500, APP)

    @pytest.mark.parametrize("api_settings", [{"access": AccessConfig(allowed_origins=(APP,))}])
    def test_others_get_nothing_to_read(self, http: httpx.Client) -> None:
        other = {"origin": "https://other.example"}
        answer = http.get("/v1/jobs", headers=other)
        problem(answer, 403, "forbidden")
        assert "access-control-allow-origin" not in answer.headers and "Origin" in answer.headers["vary"]
        assert http.options("/v1/jobs", headers={**self.PREFLIGHT, **other}).status_code == 400

    @pytest.mark.parametrize("api_settings", [{"access": AccessConfig(allowed_origins=("*",))}])
    def test_every_page_is_let_in_with_a_key_and_never_with_cookies(
        self, http: httpx.Client, service: MemoryService
    ) -> None:
        problem(http.get("/v1/jobs", headers={"origin": APP}), 403, "forbidden")
        _, key = FileKeyRing(service.files.root).add("page")
        answer = http.get("/v1/jobs", headers={"origin": APP, "x-api-key": key, "cookie": "a=b"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
        assert "access-control-allow-credentials" not in answer.headers
