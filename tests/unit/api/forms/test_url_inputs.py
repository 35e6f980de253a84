"""Inputs on their way: by URL or as bodies, refused when hostile or slow, with nothing left behind."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from lipwright.api.body_window import MinRate
from lipwright.api.forms import body_stream
from lipwright.api.forms.admissions import Admissions
from lipwright.api.forms.body_stream import BodyGrant, BodyStream
from lipwright.config import NetworkConfig
from lipwright.errors import CapacityError, StageTimeoutError
from lipwright.jobs.admission import Admission, AdmitRequest
from lipwright.storage.file_keys import job_file_key, upload_key
from tests.unit.api.edge_client import AUDIO, VIDEO
from tests.unit.api_server import GRANT_BYTES, MAX_UPLOAD_BYTES, MemoryService, SentJob, api_client
from tests.unit.cluster.virtual_time import VirtualTimeLoop
from tests.unit.net.web import Send, Web, answer, canary, serving
from tests.unit.on_disk import on_disk
from tests.waiting import until

LOOPBACK = NetworkConfig(allowed_networks=("127.0.0.1/32",), connect_timeout_s=30, stall_timeout_s=30)
IMPATIENT = LOOPBACK.model_copy(update={"stall_timeout_s": 1.5})


@pytest.fixture
def web() -> Iterator[Web]:
    def script(path: str, send: Send) -> None:
        bodies = {"/a.wav": AUDIO, "/v.mp4": VIDEO, "/empty": b"", "/big": bytes(MAX_UPLOAD_BYTES + 1)}
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
def api_settings() -> dict[str, Any]:
    return {"network": LOOPBACK}


def _is_fetched(answer: httpx.Response, service: MemoryService) -> SentJob:
    assert answer.status_code == 202, answer.text
    (request,) = service.requests
    assert request.video is not None
    keys = job_file_key(request.job_id), upload_key(request.video.key)
    for upload, key, body, label in zip(
        (request.audio, request.video), keys, (AUDIO, VIDEO), ("a.wav", "v.mp4"), strict=True
    ):
        assert (upload.num_bytes, upload.label) == (len(body), label)
        assert upload.sha256 == hashlib.sha256(body).hexdigest()
        assert on_disk(service.files, key).read_bytes() == body
    assert len(service.uploads()) == 1, "the avatar of the job"
    return request


def _refusal(http: httpx.Client, service: MemoryService, code: str, **body: Any) -> str:
    """The detail of the problem; nothing may lie in the uploads after it."""
    got = http.post("/v1/jobs", **body)
    assert (got.status_code // 100, got.json()["code"]) == (4, code), got.text
    assert service.uploads() == []
    return str(got.json()["detail"])


@pytest.mark.parametrize("suffix", ["_url", ""])
@pytest.mark.parametrize("kind", ["json", "multipart"])
def test_urls_become_uploads(http: httpx.Client, service: MemoryService, web: Web, suffix: str, kind: str) -> None:
    fields = {f"audio{suffix}": web.url("/a.wav?sig=x"), f"video{suffix}": web.url("/v.mp4#t=1")}
    if kind == "json":
        got = http.post("/v1/jobs", json={**fields, "face": 1, "priority": 1, "engine": None})
    else:
        texts = {**fields, "face": "1", "priority": "1"}
        got = http.post("/v1/jobs", files={name: (None, text) for name, text in texts.items()})
    spec = _is_fetched(got, service).spec
    assert (spec.face, spec.priority, spec.engine) == ("1", 1, None)


def test_an_empty_field_beside_the_other_counts_as_absent(http: httpx.Client, service: MemoryService, web: Web) -> None:
    empty = {"audio_url": (None, ""), "video": (None, "")}
    sent: dict[str, Any] = {"audio": ("a.wav", AUDIO), "video_url": (None, web.url("/v.mp4"))}
    _is_fetched(http.post("/v1/jobs", files=empty | sent), service)


def test_labels_of_urls_are_harmless(http: httpx.Client, service: MemoryService, web: Web) -> None:
    for path, label in (
        ("/odd/..%2f..%2fetc%2fpasswd", "passwd"),
        ("/odd%0d%0aSet-Cookie:%20x=1.mp4", "odd_Set-Cookie_ x_1.mp4"),
        ("/odd/%00", "_"),
    ):
        http.post("/v1/jobs", json={"audio": web.url("/a.wav"), "video": web.url(path)}).raise_for_status()
        assert service.requests[-1].video.label == label


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [
        ("/missing?token=secret", "url_fetch_failed", "expected status 200, found 404"),
        ("/empty", "media_invalid", "is empty"),
        ("/big", "media_too_large", f"at most {MAX_UPLOAD_BYTES} bytes"),
        ("/away", "url_refused", "http://169.254.169.254/latest/meta-data/"),
        ("/slow", "url_fetch_failed", "too long"),
    ],
)
def test_url_that_fails_leaves_nothing(service: MemoryService, web: Web, path: str, code: str, says: str) -> None:
    # The speech is there by the time the video fails.
    files = {"audio": ("a.wav", AUDIO), "video_url": (None, web.url(path))}
    with api_client(service, IMPATIENT if path == "/slow" else LOOPBACK) as http:
        detail = _refusal(http, service, code, files=files)
    assert detail.startswith("video: ") and says in detail
    assert "secret" not in detail


def test_one_source_for_each_input(http: httpx.Client, service: MemoryService, web: Web) -> None:
    url = (None, web.url("/v.mp4"))
    for fields in (
        {"video": ("v.mp4", VIDEO), "video_url": url},
        {"video_url": url, "video": ("v.mp4", VIDEO)},
        {"video": url, "video_url": url},
    ):
        detail = _refusal(http, service, "option_invalid", files={"audio": ("a.wav", AUDIO), **fields})
        assert "more than once" in detail


def test_json_that_is_no_form(http: httpx.Client, service: MemoryService) -> None:
    cases: list[Any] = [
        *(b"", b"[]", b"{", b"[" * 50_000, b'{"a": 1}', b'{"video": ["x"]}', b'{"face": true}', b"\xff"),
        *(b"{}" + b" " * 70_000, b'["audio"]', b'"x', b'{"audio": "data:;base64,UklG', b'{"audio": "UklG\\u00"}'),
    ]
    for body in cases:
        got = http.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
        assert got.status_code == 422, got.text
        assert service.uploads() == []


def test_half_a_surrogate_is_no_defect(http: httpx.Client, service: MemoryService, web: Web) -> None:
    headers = {"content-type": "application/json"}  # as JSON spells it: the escape of half a pair
    fields = {"audio": web.url("/a.wav"), "video": web.url("/v.mp4"), "face": "\ud83d"}
    assert http.post("/v1/jobs", content=json.dumps(fields), headers=headers).json()["options"]["face"] == "?"
    for url in ("http://\ud83d.example/", "x://\ud83d", "\ud83d"):
        assert http.post("/v1/jobs", content=json.dumps({"audio": url}), headers=headers).status_code == 422


HOSTILE = [
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/",
    *(f"http://{host}:{{port}}/x.mp4" for host in ("127.0.0.1", "localhost", "0x7f000001", "2130706433", "[::1]")),
    *(f"http://{host}:{{port}}/x.mp4" for host in ("[::ffff:127.0.0.1]", "127.1", "good.example@127.0.0.1")),
    "https://127.0.0.1:{port}/",
    *(f"{scheme}://127.0.0.1:{{port}}/x" for scheme in ("ftp", "tcp", "rtmp", "rtsp", "gopher", "HTTP")),
    *("file:///etc/passwd", "/etc/passwd", "/proc/self/environ", "/dev/zero", "/dev/stdin", "pipe:0"),
    *("concat:/etc/passwd|/etc/hosts", "subfile,,start,0,end,100,,:/etc/passwd", "data:/etc/passwd,"),
    *("async:file:/etc/passwd", "crypto:file:/etc/passwd", "movie=/etc/passwd", "../../../../etc/passwd"),
    *("\\\\127.0.0.1\\share\\x.mp4", "symlink_passwd.mp4", "fifo.mp4", "."),
]


@pytest.mark.parametrize("field", ["video", "video_url", "audio", "audio_url"])
def test_hostile_paths_and_urls_reach_nothing(service: MemoryService, field: str) -> None:
    other = {"audio": ("a.wav", AUDIO)} if field.startswith("video") else {"video": ("v.mp4", VIDEO)}
    with canary() as bird, api_client(service) as http:
        for template in HOSTILE:
            value = template.replace("{port}", str(bird.port))
            for body in ({"files": {**other, field: (None, value)}}, {"json": {field: value}}):
                got = http.post("/v1/jobs", **body)
                assert got.status_code == 422, (value, got.text)
                assert "root:" not in got.text and "secret" not in got.text
                assert service.uploads() == []


Run = Callable[[Coroutine[Any, Any, int]], int]


def body_of(pieces: AsyncIterator[bytes]) -> Request:
    async def receive() -> Any:
        piece = await anext(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


async def paced(pieces: list[tuple[float, int]]) -> AsyncIterator[bytes]:
    for after_s, num_bytes in pieces:
        await asyncio.sleep(after_s)
        yield bytes(num_bytes)


async def read(service: MemoryService, pieces: list[tuple[float, int]], pace: MinRate, work_s: float = 0.0) -> int:
    place = await service.admit(AdmitRequest(num_bytes=None, max_bytes=10**9))
    total = 0
    async for piece in BodyStream(body_of(paced(pieces)), pace, BodyGrant(service, place)):
        total += len(piece)
        await asyncio.sleep(work_s)
    return total


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs to the end on a simulated clock: what a busy machine takes longer is not counted."""

    def run_to_the_end(work: Coroutine[Any, Any, int]) -> int:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            monkeypatch.setattr(body_stream, "time", SimpleNamespace(monotonic=runner.get_loop().time))
            return runner.run(work)

    return run_to_the_end


def test_body_below_the_least_rate_is_too_slow(service: MemoryService, run: Run) -> None:
    with pytest.raises(StageTimeoutError, match="too slow"):
        run(read(service, [(0.1, 1)] * 6, MinRate(1000, 0.5)))
    assert run(read(service, [(0.1, 101)] * 30, MinRate(1000, 0.5))) == 3030
    assert run(read(service, [(0.0, 10)] * 8, MinRate(1000, 0.5), work_s=0.2)) == 80, "our own time is not charged"
    fast = [(0.0, 100_000)]
    assert run(read(service, [*fast, (0.2, 1)], MinRate(1000, 1.0))) == 100_001, "what came fast buys one pause"
    with pytest.raises(StageTimeoutError):
        run(read(service, [*fast, *[(0.2, 1)] * 20], MinRate(1000, 1.0)))


def test_a_place_grows_with_its_body_until_there_is_no_room(service: MemoryService, run: Run) -> None:
    extended: list[int] = []

    async def extend(admission_id: str, num_bytes: int) -> int:
        extended.append(num_bytes)
        if num_bytes > 300_000:
            raise CapacityError("The queue is full.", 7.0)
        return num_bytes + GRANT_BYTES

    service.extend = extend  # type: ignore[method-assign]
    pace = MinRate(1000, 20.0)
    assert run(read(service, [(0.0, 30_000)] * 10, pace)) == 300_000
    assert extended == [120_000, 240_000], "asked for as the granted bytes are used up"
    with pytest.raises(CapacityError):
        run(read(service, [(0.0, 30_000)] * 20, pace))


async def test_acquire_cancelled_while_admitting_releases_it(
    service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, admit = asyncio.Event(), service.admit

    async def admit_late(request: AdmitRequest) -> Admission:
        await goes_on.wait()
        return await admit(request)

    async def upload() -> None:
        async with admissions.acquire(AdmitRequest(num_bytes=1, max_bytes=1)):
            raise AssertionError("the client is gone")

    monkeypatch.setattr(service, "admit", admit_late)
    admissions = Admissions(service)
    uploading = asyncio.create_task(upload())
    await asyncio.sleep(0)
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    goes_on.set()
    await until(lambda: service.asked and not service.places)
