"""Idempotency keys: the same request again, and another one under a used key."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from config import NetworkConfig
from errors import KeyReuseError
from jobs.requests import check_same_request
from storage.job_table import JobTable
from storage.sqlite.database import Database
from tests.unit.api.edge_client import AUDIO, KEY, VIDEO, post, problem
from tests.unit.api_server import MAX_UPLOAD_BYTES, MemoryService, api_client
from tests.unit.net.web import answer
from tests.unit.net.web import serving as web_serving


class TestIdempotencyKeys:
    def test_same_request_with_same_key_returns_the_same_job(self, http: httpx.Client, service: MemoryService) -> None:
        first = post(http, face="0", metadata='{"a": "1", "b": "2"}')
        again = post(http, metadata='{"b":"2","a":"1"}', face="0", loop="pingpong")
        assert (first.status_code, again.status_code) == (202, 202)
        assert again.json() == first.json() and again.headers["idempotency-replayed"] == "true"
        in_json = {name: base64.b64encode(content).decode() for name, content in (("audio", AUDIO), ("video", VIDEO))}
        body = {**in_json, "face": "0", "metadata": {"a": "1", "b": "2"}}
        assert http.post("/v1/jobs", json=body, headers=KEY).json() == first.json(), "however it is written down"
        assert len(service.requests) == 1
        assert len(service.uploads()) == 1, "what is only compared is not kept; this is the avatar of the job"

    @pytest.mark.parametrize(
        "other", [{"audio": AUDIO + b"!"}, {"face": "1"}, {"metadata": '{"a": "2"}'}, {"priority": "-1"}]
    )
    def test_other_request_with_same_key_is_refused(
        self, http: httpx.Client, service: MemoryService, other: Any
    ) -> None:
        job_id = post(http).json()["id"]
        assert job_id in problem(post(http, **other), 422, "idempotency_key_reused")["detail"]
        assert post(http).json()["id"] == job_id
        assert post(http, headers={"Idempotency-Key": "other"}, **other).status_code == 202
        assert len(service.requests) == 2

    def test_digest_counts_a_default_that_overrides_the_avatar(self, http: httpx.Client) -> None:
        job_id = post(http).json()["id"]
        assert post(http, loop="pingpong").json()["id"] == job_id
        problem(post(http, expressiveness="1"), 422, "idempotency_key_reused")
        problem(post(http, motion="1"), 422, "idempotency_key_reused")
        first, again = (post(http, headers={"Idempotency-Key": "moves"}, motion=text) for text in ("1", "1.0"))
        assert again.json()["id"] == first.json()["id"] != job_id

    def test_other_route_with_same_key_is_refused(self, http: httpx.Client) -> None:
        job_id = post(http).json()["id"]
        files = {"audio": ("a", AUDIO), "input_reference": ("v", VIDEO)}
        refused = http.post("/v1/videos", files=files, headers=KEY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")
        assert job_id in refused.json()["error"]["message"]

    def test_digest_of_a_url_does_not_fetch_it_again(self, tmp_path: Path) -> None:
        network = NetworkConfig(allowed_networks=("127.0.0.0/8",))
        with (
            web_serving(lambda path, send: send(answer(AUDIO))) as web,
            api_client(MemoryService(tmp_path), network) as http,
        ):
            fields = {"audio_url": web.url("/a.wav"), "avatar_id": "0" * 32}
            first, again = (http.post("/v1/jobs", json=fields, headers=KEY) for _ in range(2))
            assert (first.status_code, again.json()["id"]) == (202, first.json()["id"])
            assert web.num_connections == 1
            other = {**fields, "audio_url": web.url("/b.wav")}
            problem(http.post("/v1/jobs", json=other, headers=KEY), 422, "idempotency_key_reused")
            assert web.num_connections == 1

    def test_reused_key_with_invalid_request_is_refused(self, http: httpx.Client) -> None:
        post(http)
        problem(post(http, audio=bytes(MAX_UPLOAD_BYTES + 1)), 413, "media_too_large")
        problem(post(http, colour="blue"), 422, "option_invalid")

    def test_request_digest_holds_across_restarts_and_races(self, tmp_path: Path) -> None:
        for speech, status in ((AUDIO, 202), (AUDIO, 202), (AUDIO + b"!", 422)):
            with api_client(MemoryService(tmp_path)) as http:
                assert post(http, speech).status_code == status
        table = JobTable(Database(tmp_path / "jobs.sqlite3"))
        job = table.find_job(None, "k")
        table.close()
        assert job is not None and job.request_digest is not None and len(job.request_digest) == 64
        check_same_request(job, job.request_digest)
        with pytest.raises(KeyReuseError):
            check_same_request(job, "0" * 64)
        check_same_request(job.model_copy(update={"request_digest": None}), "0" * 64)
