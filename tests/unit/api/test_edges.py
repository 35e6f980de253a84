"""The rough edges of HTTP: idempotency keys, conditional requests, ranges, pages elsewhere, links, lists."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from api.v1.views import webhook_view
from config import AccessConfig, NetworkConfig
from errors import KeyReuseError
from jobs.idempotency import check_same_request
from storage.local.api_keys import ApiKeys
from storage.sqlite.job_table import JobTable
from tests.unit.api_server import MAX_UPLOAD_BYTES, VIDEO_BYTES, MemoryService, serving
from tests.unit.net.web import answer
from tests.unit.net.web import serving as web_serving

AUDIO = b"RIFF" + bytes(5000)
VIDEO = b"mp4!" + bytes(9000)
KEY = {"Idempotency-Key": "k"}
APP = "https://app.example"


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return MemoryService(tmp_path)


@pytest.fixture
def access() -> AccessConfig:
    return AccessConfig()


@pytest.fixture
def http(service: MemoryService, access: AccessConfig) -> Iterator[httpx.Client]:
    with serving(service, access=access) as url, httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
        yield client


def _post(http: httpx.Client, audio: bytes = AUDIO, headers: dict[str, str] = KEY, **fields: str) -> httpx.Response:
    files = {"audio": ("a talk.wav", audio), "video": ("face.mp4", VIDEO)}
    return http.post("/v1/jobs", files=files, data=fields, headers=headers)


def _problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code
    return problem


def _finished(http: httpx.Client, service: MemoryService) -> str:
    job_id = str(_post(http, headers={}).json()["id"])
    service.finish(job_id)
    return job_id


class TestIdempotencyKeys:
    def test_the_same_again_gives_the_same_job(self, http: httpx.Client, service: MemoryService) -> None:
        first = _post(http, face="0", metadata='{"a": "1", "b": "2"}')
        again = _post(http, metadata='{"b":"2","a":"1"}', face="0", loop="pingpong")
        assert (first.status_code, again.status_code) == (202, 202)
        assert again.json() == first.json() and again.headers["idempotency-replayed"] == "true"
        in_json = {name: base64.b64encode(content).decode() for name, content in (("audio", AUDIO), ("video", VIDEO))}
        body = {**in_json, "face": "0", "metadata": {"a": "1", "b": "2"}}
        assert http.post("/v1/jobs", json=body, headers=KEY).json() == first.json(), "however it is written down"
        assert len(service.requests) == 1
        assert len(service.uploads()) == 1, "what is only compared is not kept; this is the presenter of the job"

    @pytest.mark.parametrize(
        "other", [{"audio": AUDIO + b"!"}, {"face": "1"}, {"metadata": '{"a": "2"}'}, {"priority": "-1"}]
    )
    def test_another_request_is_refused(self, http: httpx.Client, service: MemoryService, other: Any) -> None:
        job_id = _post(http).json()["id"]
        assert job_id in _problem(_post(http, **other), 422, "idempotency_key_reused")["detail"]
        assert _post(http).json()["id"] == job_id
        assert _post(http, headers={"Idempotency-Key": "other"}, **other).status_code == 202
        assert len(service.requests) == 2

    def test_another_door_is_another_request(self, http: httpx.Client) -> None:
        job_id = _post(http).json()["id"]
        files = {"audio": ("a", AUDIO), "input_reference": ("v", VIDEO)}
        refused = http.post("/v1/videos", files=files, headers=KEY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")
        assert job_id in refused.json()["error"]["message"]

    def test_an_url_counts_by_itself_and_is_not_fetched_again(self, tmp_path: Path) -> None:
        network = NetworkConfig(allowed_networks=("127.0.0.0/8",))
        with (
            web_serving(lambda path, send: send(answer(AUDIO))) as web,
            serving(MemoryService(tmp_path), network) as url,
            httpx.Client(base_url=url, trust_env=False) as http,
        ):
            fields = {"audio_url": web.url("/a.wav"), "avatar_id": "0" * 32}
            first, again = (http.post("/v1/jobs", json=fields, headers=KEY) for _ in range(2))
            assert (first.status_code, again.json()["id"]) == (202, first.json()["id"])
            assert web.num_connections == 1
            other = {**fields, "audio_url": web.url("/b.wav")}
            _problem(http.post("/v1/jobs", json=other, headers=KEY), 422, "idempotency_key_reused")
            assert web.num_connections == 1

    def test_what_is_compared_has_bounds(self, http: httpx.Client) -> None:
        _post(http)
        _problem(_post(http, audio=bytes(MAX_UPLOAD_BYTES + 1)), 413, "media_too_large")
        _problem(_post(http, colour="blue"), 422, "option_invalid")

    def test_it_holds_across_restarts_and_for_the_loser_of_a_race(self, tmp_path: Path) -> None:
        for speech, status in ((AUDIO, 202), (AUDIO, 202), (AUDIO + b"!", 422)):
            with serving(MemoryService(tmp_path)) as url, httpx.Client(base_url=url, trust_env=False) as http:
                assert _post(http, speech).status_code == status
        table = JobTable(tmp_path / "jobs.sqlite3")
        job = table.find_job(None, "k")
        table.close()
        assert job is not None and job.request_digest is not None and len(job.request_digest) == 64
        check_same_request(job, job.request_digest)
        with pytest.raises(KeyReuseError):
            check_same_request(job, "0" * 64)
        check_same_request(job.model_copy(update={"request_digest": None}), "0" * 64)


class TestConditionalRequests:
    @pytest.mark.parametrize("path", ["video", "source"])
    def test_files(self, http: httpx.Client, service: MemoryService, path: str) -> None:
        job_id = _finished(http, service)
        key = service.table.get_job(job_id).avatar_key
        service.files.avatar_dir(key)
        service.files.avatar_source_path(key).write_bytes(VIDEO_BYTES)
        self._check(http, f"/v1/jobs/{job_id}/{path}")

    @pytest.mark.parametrize("path", ["/openapi.json", "/"])
    def test_what_belongs_to_the_service(self, http: httpx.Client, path: str) -> None:
        self._check(http, path)
        page = http.get("/").text
        assets = [part.split('"')[0] for part in page.split('="') if part.startswith("/page/")]
        self._check(http, assets[0])

    def test_pictures(self, http: httpx.Client, service: MemoryService, sample_presenter: Path) -> None:
        job_id = _finished(http, service)
        service.files.result_path(job_id).write_bytes(sample_presenter.read_bytes())
        self._check(http, f"/v1/jobs/{job_id}/thumbnail")
        self._check(http, f"/v1/jobs/{job_id}/preview")
        rendering = _post(http, headers={}).json()["id"]
        with http.stream("GET", f"/v1/jobs/{rendering}/preview") as growing:
            assert "etag" not in growing.headers
            service.table.update_job(rendering, status="cancelled")

    def test_a_video_counts_by_time_too(self, http: httpx.Client, service: MemoryService) -> None:
        path = f"/v1/jobs/{_finished(http, service)}/video"
        changed = http.get(path).headers["last-modified"]
        assert http.get(path, headers={"if-modified-since": changed}).status_code == 304
        for other in ("Thu, 01 Jan 1998 00:00:00 GMT", "yesterday"):
            assert http.get(path, headers={"if-modified-since": other}).status_code == 200
        both = {"if-modified-since": changed, "if-none-match": '"another"'}
        assert http.get(path, headers=both).status_code == 200, "RFC 9110, 13.1.3: the tag alone counts"

    @staticmethod
    def _check(http: httpx.Client, path: str) -> None:
        whole = http.get(path)
        etag = whole.headers["etag"]
        for known in (etag, f'"x", W/{etag}', "*"):
            answer = http.get(path, headers={"if-none-match": known, "range": "bytes=0-1"})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag), known
            assert answer.headers["cache-control"] == whole.headers["cache-control"]
        assert http.get(path, headers={"if-none-match": '"x"'}).content == whole.content


class TestRanges:
    @pytest.fixture
    def path(self, http: httpx.Client, service: MemoryService) -> str:
        return f"/v1/jobs/{_finished(http, service)}/video"

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ("bytes=5-6", VIDEO_BYTES[5:7]),
            ("BYTES = 5-6", VIDEO_BYTES[5:7]),
            ("bytes=-3", VIDEO_BYTES[-3:]),
            (f"bytes=0-1,{len(VIDEO_BYTES)}-", VIDEO_BYTES[:2]),
            ("bytes=0-99999999999999999999", None),
            ("seconds=0-1", None),
            ("bytes=7-5", None),
            ("bytes=a-b", None),
            ("bytes 0-1", None),
            ("items", None),
        ],
    )
    def test_what_is_understood_is_sent(
        self, http: httpx.Client, path: str, asked: str, expected: bytes | None
    ) -> None:
        answer = http.get(path, headers={"range": asked})
        status = 200 if expected is None else 206
        assert (answer.status_code, answer.content) == (status, expected or VIDEO_BYTES), "RFC 9110, 14.2"

    @pytest.mark.parametrize("asked", [f"bytes={len(VIDEO_BYTES)}-", "bytes=-0", "bytes=99999-,999999-9999999"])
    def test_what_lies_behind_the_end_is_a_problem(self, http: httpx.Client, path: str, asked: str) -> None:
        answer = http.get(path, headers={"range": asked})
        assert asked[:9] in _problem(answer, 416, "range_not_satisfiable")["detail"]
        assert answer.headers["content-range"] == f"bytes */{len(VIDEO_BYTES)}"

    def test_openais_form_of_it(self, http: httpx.Client, path: str) -> None:
        content = f"/v1/videos/{path.split('/')[3]}/content"
        answer = http.get(content, headers={"range": "bytes=99999-"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (416, "range_not_satisfiable")
        assert answer.headers["content-range"] == f"bytes */{len(VIDEO_BYTES)}"

    def test_a_range_of_what_has_changed_is_the_whole(self, http: httpx.Client, path: str) -> None:
        headers = http.get(path).headers
        for condition in (headers["etag"], headers["last-modified"]):
            part = http.get(path, headers={"range": "bytes=5-6", "if-range": condition})
            assert (part.status_code, part.content) == (206, VIDEO_BYTES[5:7])
        for condition in ('"other"', f"W/{headers['etag']}", "Thu, 01 Jan 1998 00:00:00 GMT"):
            for asked in ("bytes=5-6", "bytes=99999-"):
                whole = http.get(path, headers={"range": asked, "if-range": condition})
                assert (whole.status_code, whole.content) == (200, VIDEO_BYTES)


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

    @pytest.mark.parametrize("access", [AccessConfig(allowed_origins=(APP,))])
    def test_a_named_one_uses_the_api_with_its_key(self, http: httpx.Client, service: MemoryService) -> None:
        assert http.get("/v1/jobs", headers={"origin": APP}).status_code == 200, "on this machine no key is needed"
        _, key = ApiKeys(service.files.root).add("page")
        preflight = http.options("/v1/jobs", headers=self.PREFLIGHT)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, APP)
        assert "idempotency-key" in preflight.headers["access-control-allow-headers"].lower()
        assert "access-control-allow-credentials" not in preflight.headers
        refused = http.get("/v1/jobs", headers={"origin": APP})
        _problem(refused, 401, "unauthorized")
        assert refused.headers["access-control-allow-origin"] == APP, "its script reads why"
        job = _post(http, headers={"origin": APP, "authorization": f"Bearer {key}"})
        exposed = job.headers["access-control-expose-headers"].lower()
        assert job.status_code == 202
        assert {"location", "retry-after", "etag", "content-range"} <= {name.strip() for name in exposed.split(",")}
        service.is_broken = True
        broken = http.get(job.headers["location"], headers={"origin": APP, "authorization": f"Bearer {key}"})
        assert (broken.status_code, broken.headers["access-control-allow-origin"]) == (500, APP)

    @pytest.mark.parametrize("access", [AccessConfig(allowed_origins=(APP,))])
    def test_others_get_nothing_to_read(self, http: httpx.Client) -> None:
        other = {"origin": "https://other.example"}
        answer = http.get("/v1/jobs", headers=other)
        _problem(answer, 403, "forbidden")
        assert "access-control-allow-origin" not in answer.headers and "Origin" in answer.headers["vary"]
        assert http.options("/v1/jobs", headers={**self.PREFLIGHT, **other}).status_code == 400

    @pytest.mark.parametrize("access", [AccessConfig(allowed_origins=("*",))])
    def test_every_page_is_let_in_with_a_key_and_never_with_cookies(
        self, http: httpx.Client, service: MemoryService
    ) -> None:
        _problem(http.get("/v1/jobs", headers={"origin": APP}), 403, "forbidden")
        _, key = ApiKeys(service.files.root).add("page")
        answer = http.get("/v1/jobs", headers={"origin": APP, "x-api-key": key, "cookie": "a=b"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
        assert "access-control-allow-credentials" not in answer.headers


class TestLinks:
    OUTSIDE = {"x-forwarded-proto": "https", "x-forwarded-host": "lips.example", "x-forwarded-prefix": "/lip"}

    def _answers(self, http: httpx.Client, service: MemoryService, headers: dict[str, str]) -> list[str]:
        """What the links of all answers begin with."""
        _, key = ApiKeys(service.files.root).add("proxy")  # without one, nobody comes in through a proxy
        headers = {**headers, "x-api-key": key}
        job = _post(http, headers=headers)
        avatar = http.post("/v1/avatars", files={"video": ("v", VIDEO)}, headers=headers)
        listed = http.get("/v1/jobs", headers=headers).json()["jobs"][0]
        record = service.table.get_job(job.json()["id"])
        service.finish(record.id)
        events = http.get(f"/v1/jobs/{record.id}/events", headers=headers).text
        told = json.loads(next(line for line in events.splitlines() if line.startswith("data: "))[6:])
        links = [
            job.headers["location"],
            listed["links"]["self"],
            told["links"]["video"],
            webhook_view(record)["links"]["source"],
            avatar.headers["location"],
            avatar.json()["links"]["source"],
        ]
        return [link.partition("/v1/")[0] for link in links]

    @pytest.mark.parametrize("access", [AccessConfig(trusted_proxies=("127.0.0.0/8",))])
    def test_they_are_whole_where_a_trusted_proxy_says_how(self, http: httpx.Client, service: MemoryService) -> None:
        assert self._answers(http, service, self.OUTSIDE) == ["https://lips.example/lip"] * 6

    def test_they_are_paths_where_nobody_is_trusted(self, http: httpx.Client, service: MemoryService) -> None:
        assert self._answers(http, service, self.OUTSIDE) == [""] * 6

    @pytest.mark.parametrize("access", [AccessConfig(trusted_proxies=("10.0.0.0/8", "127.0.0.1"))])
    @pytest.mark.parametrize(
        ("told", "expected"),
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
        self, http: httpx.Client, service: MemoryService, told: dict[str, str], expected: str
    ) -> None:
        assert self._answers(http, service, told) == [expected] * 6

    def test_networks_are_networks(self) -> None:
        with pytest.raises(ValidationError):
            AccessConfig(trusted_proxies=("proxy.example",))


class TestLists:
    def test_names_words_and_whole_dates(self, http: httpx.Client) -> None:
        _post(http, headers={}, metadata='{"order": "17"}')
        (job,) = http.get("/v1/jobs").json()["jobs"]
        assert job["inputs"] == {"audio": "a talk.wav", "presenter": "face.mp4"}
        assert job["metadata"] == {"order": "17"}
        assert datetime.fromisoformat(job["created_at"]).utcoffset() == timedelta(0)

    def test_pages_stay_as_they_are_while_jobs_come_and_go(self, http: httpx.Client, service: MemoryService) -> None:
        ids = [_post(http, headers={}).json()["id"] for _ in range(5)][::-1]
        first = http.get("/v1/jobs", params={"limit": 2}).json()
        _post(http, headers={})
        service.table.delete_job(ids[1])  # the last of the page
        second = http.get("/v1/jobs", params={"limit": 2, "after": first["next_after"]}).json()
        last = http.get("/v1/jobs", params={"limit": 2, "after": second["next_after"]}).json()
        pages = [[job["id"] for job in page["jobs"]] for page in (first, second, last)]
        assert pages == [ids[:2], ids[2:4], ids[4:]] and last["next_after"] is None

    def test_filters(self, http: httpx.Client, service: MemoryService) -> None:
        ids = [
            _post(http, headers={}, metadata=json.dumps(words)).json()["id"]
            for words in ({"order": "17"}, {"order": "17", "it's": 'a "b"'}, {"order": "18"}, {})
        ]
        service.finish(ids[0])

        def listed(**query: str) -> list[str]:
            return [job["id"] for job in http.get("/v1/jobs", params=query).raise_for_status().json()["jobs"]]

        assert listed(metadata='{"order": "17"}') == ids[1::-1]
        assert listed(metadata=json.dumps({"order": "17", "it's": 'a "b"'})) == [ids[1]]
        assert listed(metadata='{"order": "17"}', status="queued") == [ids[1]]
        assert listed(metadata='{"17": "order"}') == []
        for wrong in ("17", '{"a": 1}'):
            assert (
                "metadata"
                in _problem(http.get("/v1/jobs", params={"metadata": wrong}), 422, "option_invalid")["detail"]
            )
