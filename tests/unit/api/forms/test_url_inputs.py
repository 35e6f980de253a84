"""Inputs by URL: fetched into uploads like any other, refused when hostile, and nothing left behind."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI, Request

from api import problem
from api.forms.form_receiver import FormReceiver
from config import MediaLimits, NetworkConfig, PipelineConfig
from jobs.admission import Admission, AdmitRequest
from jobs.model.spec import JobSpec
from jobs.ports import JobService
from jobs.requests import Caller
from storage.file_store import FileStore
from tests.unit.api_server import running
from tests.unit.net.web import Send, Web, answer, canary, serving

AUDIO = b"RIFF" + bytes(5000)
VIDEO = b"mp4!" + bytes(9000)
MAX_BYTES = 300_000
LOOPBACK = NetworkConfig(allowed_networks=("127.0.0.1/32",), connect_timeout_s=30, stall_timeout_s=30)
IMPATIENT = LOOPBACK.model_copy(update={"stall_timeout_s": 1.5})


PLACE = Admission(id="0", max_bytes=MAX_BYTES, timeout_s=60.0)


class WideDoor:
    """Grants whatever a form asks for; no test here goes further than the form."""

    async def admit(self, request: AdmitRequest) -> Admission:
        return PLACE

    async def release(self, admission_id: str) -> None:
        pass

    async def grow_reservation(self, request: AdmitRequest, admission_id: str) -> Admission:
        return Admission(id=admission_id, max_bytes=request.max_bytes, timeout_s=60.0)

    async def extend(self, admission_id: str, num_bytes: int) -> int:
        return 10**12


class FormClient:
    """A form on a real socket that answers with what it holds, and the uploads that lie there."""

    def __init__(self, root: Path, http: httpx.Client) -> None:
        self.root, self._http = root, http

    def post(self, **body: Any) -> httpx.Response:
        return self._http.post("/form", **body)

    def uploads(self) -> list[Path]:
        return list((self.root / "uploads").iterdir())

    def refusal(self, code: str, **body: Any) -> str:
        """The detail of the problem; nothing may lie in the uploads after it."""
        got = self.post(**body)
        assert (got.status_code // 100, got.json()["code"]) == (4, code), got.text
        assert self.uploads() == []
        return str(got.json()["detail"])


@contextmanager
def form_client(root: Path, network: NetworkConfig) -> Iterator[FormClient]:
    config = PipelineConfig(limits=MediaLimits(max_upload_bytes=MAX_BYTES), network=network)
    receiver = FormReceiver(cast(JobService, WideDoor()), FileStore(root), config)
    app = FastAPI()
    problem.install(app)

    async def take(request: Request) -> dict[str, Any]:
        request.state.caller = Caller()
        async with receiver.receive(request, JobSpec) as (spec, _):
            return spec.model_dump()

    app.add_api_route("/form", take, methods=["POST"])
    with running(app) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        yield FormClient(root, http)


@pytest.fixture
def web() -> Iterator[Web]:
    def script(path: str, send: Send) -> None:
        bodies = {"/a.wav": AUDIO, "/v.mp4": VIDEO, "/empty": b"", "/big": bytes(MAX_BYTES + 1)}
        name = path.partition("?")[0]
        if name == "/away":
            send(answer(b"", "302 Found", "Location: http://169.254.169.254/latest/meta-data/"))
        elif name == "/slow":
            threading.Event().wait(60)
        elif name.startswith("/odd"):
            send(answer(VIDEO))
        else:
            send(answer(bodies[name]) if name in bodies else answer(b"secret of the inside", "404 Not Found"))

    with serving(script) as server:
        yield server


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FormClient]:
    with form_client(tmp_path, LOOPBACK) as client:
        yield client


def _is_fetched(form: dict[str, Any], client: FormClient) -> None:
    for name, body, label in (("audio", AUDIO, "a.wav"), ("video", VIDEO, "v.mp4")):
        upload = form[name]
        assert (upload["num_bytes"], upload["label"]) == (len(body), label)
        assert upload["sha256"] == hashlib.sha256(body).hexdigest()
        assert (client.root / "uploads" / upload["key"]).read_bytes() == body
    assert len(client.uploads()) == 2


@pytest.mark.parametrize("suffix", ["_url", ""])
@pytest.mark.parametrize("kind", ["json", "multipart"])
def test_urls_become_uploads(client: FormClient, web: Web, suffix: str, kind: str) -> None:
    fields = {f"audio{suffix}": web.url("/a.wav?sig=x"), f"video{suffix}": web.url("/v.mp4#t=1")}
    if kind == "json":
        got = client.post(json={**fields, "face": 1, "priority": 1, "engine": None})
    else:
        parts: Any = {name: (None, text) for name, text in {**fields, "face": "1", "priority": "1"}.items()}
        got = client.post(files=parts)
    assert got.status_code == 200, got.text
    _is_fetched(got.json(), client)
    assert (got.json()["face"], got.json()["priority"], got.json()["engine"]) == ("1", 1, None)


def test_files_and_urls_together(client: FormClient, web: Web) -> None:
    got = client.post(files={"audio": ("a.wav", AUDIO), "video_url": (None, web.url("/v.mp4"))})
    assert got.status_code == 200, got.text
    _is_fetched(got.json(), client)


def test_an_empty_field_beside_the_other_counts_as_absent(client: FormClient, web: Web) -> None:
    fields = {
        "audio_url": (None, ""),
        "audio": ("a.wav", AUDIO),
        "video": (None, ""),
        "video_url": (None, web.url("/v.mp4")),
    }
    got = client.post(files=fields)
    assert got.status_code == 200, got.text
    _is_fetched(got.json(), client)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/odd/..%2f..%2fetc%2fpasswd", "passwd"),
        ("/odd%0d%0aSet-Cookie:%20x=1.mp4", "odd_Set-Cookie_ x_1.mp4"),
        ("/odd/%00", "_"),
    ],
)
def test_labels_are_harmless(client: FormClient, web: Web, path: str, label: str) -> None:
    got = client.post(json={"audio": web.url("/a.wav"), "video": web.url(path)})
    assert got.json()["video"]["label"] == label


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [
        ("/missing?token=secret", "url_fetch_failed", "expected status 200, found 404"),
        ("/empty", "media_invalid", "is empty"),
        ("/big", "media_too_large", f"at most {MAX_BYTES} bytes"),
        ("/away", "url_refused", "http://169.254.169.254/latest/meta-data/"),
        ("/slow", "url_fetch_failed", "too long"),
    ],
)
def test_what_cannot_be_fetched_leaves_nothing(tmp_path: Path, web: Web, path: str, code: str, says: str) -> None:
    # The speech is there by the time the video fails.
    with form_client(tmp_path, IMPATIENT if path == "/slow" else LOOPBACK) as client:
        detail = client.refusal(code, files={"audio": ("a.wav", AUDIO), "video_url": (None, web.url(path))})
    assert detail.startswith("video: ") and says in detail
    assert "secret" not in detail


def test_one_source_for_each_input(client: FormClient, web: Web) -> None:
    url = (None, web.url("/v.mp4"))
    for fields in (
        {"video": ("v.mp4", VIDEO), "video_url": url},
        {"video_url": url, "video": ("v.mp4", VIDEO)},
        {"video": url, "video_url": url},
    ):
        assert "more than once" in client.refusal("option_invalid", files={"audio": ("a.wav", AUDIO), **fields})
    assert "both" in client.refusal(
        "option_invalid", json={"audio": web.url("/a.wav"), "video": web.url("/v.mp4"), "avatar_id": "0"}
    )
    assert "audio" in client.refusal("option_invalid", json={"video": web.url("/v.mp4")})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 50_000,
        b'"x"',
        b'{"a": 1}',
        b'{"video": ["x"]}',
        b'{"face": true}',
        b"\xff",
        b"{}" + b" " * 70_000,
    ],
)
def test_json_that_is_no_form(client: FormClient, body: bytes) -> None:
    got = client.post(content=body, headers={"content-type": "application/json"})
    assert got.status_code == 422, got.text
    assert client.uploads() == []


def test_half_a_surrogate_is_no_defect(client: FormClient, web: Web) -> None:
    headers = {"content-type": "application/json"}  # as JSON spells it: the escape of half a pair
    fields = {"audio": web.url("/a.wav"), "video": web.url("/v.mp4"), "face": "\ud83d"}
    assert client.post(content=json.dumps(fields), headers=headers).json()["face"] == "?"
    for url in ("http://\ud83d.example/", "x://\ud83d", "\ud83d"):
        assert client.post(content=json.dumps({"audio": url}), headers=headers).status_code == 422


HOSTILE = [
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/",
    "http://127.0.0.1:{port}/url.mp4",
    "http://localhost:{port}/url_localhost.mp4",
    "http://0x7f000001:{port}/url_hex.mp4",
    "http://2130706433:{port}/url_dec.mp4",
    "http://[::1]:{port}/url6.mp4",
    "http://[::ffff:127.0.0.1]:{port}/mapped.mp4",
    "http://127.1:{port}/url_short.mp4",
    "http://good.example@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}/",
    *(f"{scheme}://127.0.0.1:{{port}}/x" for scheme in ("ftp", "tcp", "rtmp", "rtsp", "gopher", "HTTP")),
    *("file:///etc/passwd", "/etc/passwd", "/proc/self/environ", "/dev/zero", "/dev/stdin", "pipe:0"),
    *("concat:/etc/passwd|/etc/hosts", "subfile,,start,0,end,100,,:/etc/passwd", "data:/etc/passwd,"),
    *("async:file:/etc/passwd", "crypto:file:/etc/passwd", "movie=/etc/passwd", "../../../../etc/passwd"),
    *("\\\\127.0.0.1\\share\\x.mp4", "symlink_passwd.mp4", "fifo.mp4", "."),
]


@pytest.mark.parametrize("field", ["video", "video_url", "audio", "audio_url"])
def test_hostile_paths_and_urls_reach_nothing(tmp_path: Path, field: str) -> None:
    other = {"audio": ("a.wav", AUDIO)} if field.startswith("video") else {"video": ("v.mp4", VIDEO)}
    with canary() as bird, form_client(tmp_path, NetworkConfig()) as client:
        for template in HOSTILE:
            value = template.replace("{port}", str(bird.port))
            for body in ({"files": {**other, field: (None, value)}}, {"json": {field: value}}):
                got = client.post(**body)
                assert got.status_code == 422, (value, got.text)
                assert "root:" not in got.text and "secret" not in got.text
                assert client.uploads() == []
