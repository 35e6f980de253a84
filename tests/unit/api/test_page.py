"""The page as it is served: what it loads is here, its headers keep other origins out, and it says the same twice."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from config import AccessConfig
from models.engines.registry import ENGINES
from storage.local.api_keys import FileKeyRing
from tests.unit.api.edge_client import APP, post, problem
from tests.unit.api_server import MemoryService

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
    assert served == {
        path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if path.suffix in (".js", ".css", ".svg")
    }


def test_its_headers(http: httpx.Client) -> None:
    answer = http.get("/", headers={"accept": "text/html,*/*"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "camera=(self)" in answer.headers["permissions-policy"]
    assert "style=" not in answer.text and not re.search(r"<script(?![^>]*src=)", answer.text)
    same = http.get("/", headers={"if-none-match": answer.headers["etag"]})
    assert (same.status_code, same.content, answer.headers["cache-control"]) == (304, b"", "no-cache")
    assert http.head("/").content == b""


def test_programs_that_ask_for_json_get_json(http: httpx.Client) -> None:
    answer = http.get("/", headers={"accept": "application/json"})
    assert answer.json()["links"]["jobs"] == "/v1/jobs"
    assert answer.headers["vary"] == http.get("/").headers["vary"] == "Accept"
    assert "text/html" in http.get("/", headers={"accept": "*/*"}).headers["content-type"]


@pytest.mark.parametrize("name", ["__init__.py", "%2e%2e%2fconfig.py", "js%2f..%2f..%2fconfig.py", "js"])
def test_nothing_else_is_served(http: httpx.Client, name: str) -> None:
    edition = re.findall(r"/page/([0-9a-f]+)/", http.get("/").text)[0]
    assert http.get(f"/page/{edition}/{name}").status_code == 404


def test_an_old_page_finds_its_files(http: httpx.Client) -> None:
    answer = http.get("/page/000000000000/style.css")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


def test_every_word_is_there_in_every_language() -> None:
    text = (WEB / "js" / "strings.js").read_text(encoding="utf-8")
    keys = re.findall(r"^\s+(\w+): [^{]", text, re.MULTILINE)
    texts = re.findall(r'^\s+(\w+): \["(.+)",\s+"(.+)"\],$', text, re.MULTILINE)
    assert [key for key, *_ in texts] == keys
    code = "".join(path.read_text(encoding="utf-8") for path in WEB.rglob("*") if path.suffix in (".js", ".html"))
    used = set(re.findall(r'(?:\bt\("|data-(?:text|label)=")(\w+)"', code))
    assert used <= set(keys), used - set(keys)
    for _, *languages in texts:
        english, chinese = (sorted(re.findall(r"\{\w+\}", text)) for text in languages)
        assert english == chinese, languages


def test_every_engine_is_named_in_the_language_of_the_page() -> None:
    text = (WEB / "js" / "strings.js").read_text(encoding="utf-8")
    (part,) = re.findall(r"\n  engines: \{(.*?)\n  \}", text, re.DOTALL)
    assert set(re.findall(r"^\s+(\w+):", part, re.MULTILINE)) == set(ENGINES)


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
