"""What is served as files: the page and its headers, conditional requests and ranges (RFC 9110), files in a bucket."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from lipwright.config import AccessConfig, BucketConfig, PipelineConfig
from lipwright.storage.file_keys import result_key, source_key
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright.storage.state import open_files
from models.engines.registry import ENGINES
from tests.s3_server import S3Server
from tests.unit.api.edge_client import APP, AUDIO, VIDEO, finished, post, problem
from tests.unit.api_server import VIDEO_BYTES, MemoryService, api_client
from tests.unit.on_disk import on_disk
from tests.unit.test_errors import error_classes

WEB = Path(__file__).resolve().parents[3] / "web"


def _loaded(http: httpx.Client) -> list[str]:
    """Addresses of all that the page loads, modules of modules included."""
    found = re.findall(r'(?:src|href)="([^"#]+)"', http.get("/").text + http.get("/live.html").text)
    found += re.findall(r'"\.\.(/[^"]+)"', http.get("/widget/lipwright-avatar.js").text)
    for address in found:
        if address.endswith(".js"):
            folder = address.rpartition("/")[0]
            names = re.findall(r'(?:from |new URL\()"\./([^"]+)"', http.get(address).text)
            found += [path for name in names if (path := f"{folder}/{name}") not in found]
    return found


def test_the_page_loads_nothing_from_elsewhere(http: httpx.Client, service: MemoryService) -> None:
    FileKeyRing(service.files.root).add("a studio")  # signing in is done on the page, so it needs no key
    assert http.get("/live.html").status_code == 200
    loaded = _loaded(http)
    assert len(loaded) > 12
    for address in loaded:
        assert address.startswith("/"), address
        answer = http.get(address)
        assert answer.status_code == 200, address
        if address.startswith("/page/"):
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.headers["x-content-type-options"] == "nosniff"
    served = {address.split("/", 3)[3] for address in loaded if address.startswith("/page/")}
    files = [path for path in WEB.rglob("*.*") if path.suffix in (".js", ".css", ".svg") and path.stem != "reload"]
    assert served == {path.relative_to(WEB).as_posix() for path in files}


def test_page_has_security_headers(http: httpx.Client) -> None:
    answer = http.get("/", headers={"accept": "text/html,*/*"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert policy["style-src"] == policy["connect-src"] == "'self'"
    assert "camera=(self)" in answer.headers["permissions-policy"]
    for page in (answer, live := http.get("/live.html")):
        assert "style=" not in page.text and (inline := re.findall(r"<script>([^<]+)</script>", page.text))
        allowed = [f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in inline]
        assert policy["script-src"].split() == ["'self'", *allowed]
    assert "default-src 'none'" in live.headers["content-security-policy"]
    same = http.get("/", headers={"if-none-match": answer.headers["etag"]})
    assert (same.status_code, same.content, answer.headers["cache-control"]) == (304, b"", "no-cache")
    assert http.head("/").content == b""


def test_programs_that_ask_for_json_get_json(http: httpx.Client) -> None:
    answer = http.get("/", headers={"accept": "application/json"})
    assert answer.json()["links"]["jobs"] == "/v1/jobs"
    assert answer.headers["vary"] == http.get("/").headers["vary"] == "Accept"
    assert "text/html" in http.get("/", headers={"accept": "*/*"}).headers["content-type"]


def test_files_of_the_page_are_served_and_nothing_else(http: httpx.Client) -> None:
    edition = re.findall(r"/page/([0-9a-f]+)/", http.get("/").text)[0]
    for name in ("__init__.py", "%2e%2e%2fconfig.py", "js%2f..%2f..%2fconfig.py", "js"):
        assert http.get(f"/page/{edition}/{name}").status_code == 404
    old = http.get("/page/000000000000/style.css")
    assert (old.status_code, old.headers["cache-control"]) == (200, "no-cache")


def test_every_word_is_there_in_every_language() -> None:
    text = (WEB / "js" / "strings.js").read_text(encoding="utf-8")
    keys = re.findall(r"^\s+(\w+): [^{]", text, re.MULTILINE)
    texts = re.findall(r'^\s+(\w+): \["(.+)",\s+"(.+)"\],$', text, re.MULTILINE)
    assert [key for key, *_ in texts] == keys
    code = "".join(path.read_text(encoding="utf-8") for path in WEB.rglob("*") if path.suffix in (".js", ".html"))
    used = set(re.findall(r'(?:\bt\("|data-(?:text|label)=")(\w+)"', code))
    assert used <= set(keys), used - set(keys)
    (part,) = re.findall(r"\n  engines: \{(.*?)\n  \}", text, re.DOTALL)
    assert set(re.findall(r"^\s+(\w+):", part, re.MULTILINE)) == set(ENGINES)
    (part,) = re.findall(r"\n  advice: \{(.*?)\n  \}", text, re.DOTALL)
    advice = dict(re.findall(r'^    (\w+): \[".+",\s+"(.+)"\],$', part, re.MULTILINE))
    assert {kind.code for kind in error_classes()} <= advice.keys()
    assert not any(chinese.isascii() for chinese in advice.values())
    for _, *languages in texts:
        english, chinese = (sorted(re.findall(r"\{\w+\}", text)) for text in languages)
        assert english == chinese, languages


PREFLIGHT = {
    "origin": APP,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, idempotency-key, if-match, content-type",
}


def test_other_origins_are_refused_unless_named(http: httpx.Client) -> None:
    assert "access-control-allow-origin" not in http.get("/healthz", headers={"origin": APP}).headers
    assert http.options("/v1/jobs", headers=PREFLIGHT).status_code in (403, 405)
    with pytest.raises(ValidationError):
        AccessConfig(allowed_origins=("https://app.example/path",))


@pytest.mark.parametrize("api_settings", [{"access": AccessConfig(allowed_origins=(APP,))}])
def test_allowed_origin_uses_the_api_with_its_key(http: httpx.Client, service: MemoryService) -> None:
    assert http.get("/v1/jobs", headers={"origin": APP}).status_code == 200, "on this machine no key is needed"
    other = {"origin": "https://other.example"}
    answer = http.get("/v1/jobs", headers=other)
    problem(answer, 403, "forbidden")
    assert "access-control-allow-origin" not in answer.headers and "Origin" in answer.headers["vary"]
    assert http.options("/v1/jobs", headers={**PREFLIGHT, **other}).status_code == 400
    _, key = FileKeyRing(service.files.root).add("page")
    preflight = http.options("/v1/jobs", headers=PREFLIGHT)
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


@pytest.mark.parametrize("api_settings", [{"access": AccessConfig(allowed_origins=("*",))}])
def test_any_origin_needs_a_key_and_no_cookies(http: httpx.Client, service: MemoryService) -> None:
    problem(http.get("/v1/jobs", headers={"origin": APP}), 403, "forbidden")
    _, key = FileKeyRing(service.files.root).add("page")
    answer = http.get("/v1/jobs", headers={"origin": APP, "x-api-key": key, "cookie": "a=b"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
    assert "access-control-allow-credentials" not in answer.headers


def test_conditional_requests_are_answered(http: httpx.Client, service: MemoryService, sample_video: Path) -> None:
    job_id = finished(http, service)
    key = service.table.get_job(job_id).avatar_key
    on_disk(service.files, source_key(key)).write_bytes(VIDEO_BYTES)
    on_disk(service.files, result_key(job_id)).write_bytes(sample_video.read_bytes())
    asset = re.findall(r'="(/page/[^"]+)"', http.get("/").text)[0]
    files = (f"/v1/jobs/{job_id}/{name}" for name in ("video", "source", "thumbnail", "preview"))
    for path in ("/openapi.json", "/", asset, *files):
        whole = http.get(path)
        etag = whole.headers["etag"]
        for known in (etag, f'"x", W/{etag}', "*"):
            answer = http.get(path, headers={"if-none-match": known, "range": "bytes=0-1"})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag), (path, known)
            assert answer.headers["cache-control"] == whole.headers["cache-control"], path
        assert http.get(path, headers={"if-none-match": '"x"'}).content == whole.content, path
    rendering = post(http, headers={}).json()["id"]
    with http.stream("GET", f"/v1/jobs/{rendering}/preview") as growing:
        assert "etag" not in growing.headers
        service.table.update_job(rendering, status="cancelled")


def test_a_video_counts_by_time_too(http: httpx.Client, service: MemoryService) -> None:
    path = f"/v1/jobs/{finished(http, service)}/video"
    changed = http.get(path).headers["last-modified"]
    assert http.get(path, headers={"if-modified-since": changed}).status_code == 304
    for other in ("Thu, 01 Jan 1998 00:00:00 GMT", "yesterday"):
        assert http.get(path, headers={"if-modified-since": other}).status_code == 200
    both = {"if-modified-since": changed, "if-none-match": '"another"'}
    assert http.get(path, headers=both).status_code == 200, "RFC 9110, 13.1.3: the tag alone counts"


@pytest.fixture
def path(http: httpx.Client, service: MemoryService) -> str:
    return f"/v1/jobs/{finished(http, service)}/video"


def test_understood_range_is_sent(http: httpx.Client, path: str) -> None:
    parts = {
        "bytes=5-6": VIDEO_BYTES[5:7],
        "BYTES = 5-6": VIDEO_BYTES[5:7],
        "bytes=-3": VIDEO_BYTES[-3:],
        f"bytes=0-1,{len(VIDEO_BYTES)}-": VIDEO_BYTES[:2],
    }
    others = "bytes=0-99999999999999999999", "seconds=0-1", "", "bytes=7-5", "bytes=a-b", "bytes 0-1", "items"
    for asked, expected in {**parts, **dict.fromkeys(others)}.items():
        answer = http.get(path, headers={"range": asked})
        status = 200 if expected is None else 206
        assert (answer.status_code, answer.content) == (status, expected or VIDEO_BYTES), (asked, "RFC 9110, 14.2")
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_range_behind_the_end_answers_416(http: httpx.Client, path: str) -> None:
    for asked in (f"bytes={len(VIDEO_BYTES)}-", "bytes=-0", "bytes=99999-,999999-9999999"):
        answer = http.get(path, headers={"range": asked})
        assert asked[:9] in problem(answer, 416, "range_not_satisfiable")["detail"]
        openai = http.get(f"/v1/videos/{path.split('/')[3]}/content", headers={"range": asked})
        assert (openai.status_code, openai.json()["error"]["code"]) == (416, "range_not_satisfiable")
        for each in (answer, openai):
            assert each.headers["content-range"] == f"bytes */{len(VIDEO_BYTES)}"


def test_a_range_of_what_has_changed_is_the_whole(http: httpx.Client, path: str) -> None:
    headers = http.get(path).headers
    for condition in (headers["etag"], headers["last-modified"]):
        part = http.get(path, headers={"range": "bytes=5-6", "if-range": condition})
        assert (part.status_code, part.content) == (206, VIDEO_BYTES[5:7])
    for condition in ('"other"', f"W/{headers['etag']}", "Thu, 01 Jan 1998 00:00:00 GMT"):
        for asked in ("bytes=5-6", "bytes=99999-"):
            whole = http.get(path, headers={"range": asked, "if-range": condition})
            assert (whole.status_code, whole.content) == (200, VIDEO_BYTES)


@pytest.fixture(params=[False, True], ids=["streamed", "redirected"])
def redirects(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path, redirects: bool) -> Iterator[tuple[MemoryService, httpx.Client]]:
    """A service with its files in a bucket, and a client."""
    config = PipelineConfig(data_dir=tmp_path, files=s3.new_bucket(), bucket=BucketConfig(redirects=redirects))
    service = MemoryService(tmp_path, open_files(config))
    with api_client(service) as http:
        yield service, http


def test_bucket_files_come_whole_and_in_ranges(bucket: tuple[MemoryService, httpx.Client], redirects: bool) -> None:
    service, http = bucket
    job = service.table.get_job(finished(http, service))
    url = f"/v1/jobs/{job.id}/video"
    answer = http.get(url, follow_redirects=True)
    assert (answer.status_code, answer.content) == (200, VIDEO_BYTES)
    assert answer.headers["content-type"] == "video/mp4"
    assert [each.status_code for each in answer.history] == ([307] if redirects else [])
    for field, expected in (("bytes=10-19", VIDEO_BYTES[10:20]), ("bytes=-7", VIDEO_BYTES[-7:])):
        answer = http.get(url, headers={"Range": field}, follow_redirects=True)
        assert (answer.status_code, answer.content) == (206, expected)
        assert answer.headers["content-range"].endswith(f"/{len(VIDEO_BYTES)}")
    answer = http.get(url, params={"download": "true"})
    assert (answer.status_code, answer.content) == (200, VIDEO_BYTES), "a redirect could not say it"
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''a%20talk.mp4"
    assert job.spec.video is not None
    service.files.take_upload(job.spec.video.key, source_key(job.avatar_key))
    assert http.get(f"/v1/jobs/{job.id}/source", follow_redirects=True).content == VIDEO


def test_submission_waits_with_bucket_returns_whole_video(bucket: tuple[MemoryService, httpx.Client]) -> None:
    service, http = bucket
    service.outcome = "video"
    headers = {"Accept": "video/mp4", "Range": "bytes=0-3"}
    answer = http.post("/v1/jobs?wait=60", files={"audio": AUDIO, "video": VIDEO}, headers=headers)
    assert (answer.status_code, answer.content) == (200, VIDEO_BYTES)
    assert answer.headers["location"].startswith("/v1/jobs/")


@pytest.mark.parametrize("redirects", [False], indirect=True, ids=["streamed"])
def test_streams_of_a_bucket_know_conditions_and_ends(bucket: tuple[MemoryService, httpx.Client]) -> None:
    service, http = bucket
    job_id = finished(http, service)
    url = f"/v1/jobs/{job_id}/video"
    given = http.get(url).headers
    same = http.get(url, headers={"If-None-Match": given["etag"]})
    assert (same.status_code, same.headers["cache-control"]) == (304, given["cache-control"])
    head = http.head(url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(VIDEO_BYTES)), b"")
    late = http.get(url, headers={"Range": f"bytes={len(VIDEO_BYTES)}-"})
    assert (late.status_code, late.json()["code"]) == (416, "range_not_satisfiable")
    for headers in ({"Range": "bytes=0-3", "If-Range": '"another"'}, {"Range": "bytes=0-3,8-9"}):
        whole = http.get(url, headers=headers)
        assert (whole.status_code, whole.content) == (200, VIDEO_BYTES)
    service.files.stored.remove(result_key(job_id))
    assert http.get(url).json()["code"] == "not_found"
