"""The front before the real API: callers without a key, or with one, do not take the slots of others."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from errors import LipwrightError
from launch.front_config import FrontLimits
from launch.front_proxy import FrontProxy, haproxy_binary
from net.access_rule import CALLER_HEADER, FRONT_HEADER
from storage.local.api_keys import FileKeyRing
from tests.ports import quiet_port
from tests.unit.api_server import VIDEO_BYTES, MemoryService, serving

PROGRAM = haproxy_binary()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs HAProxy, which `ray[serve]` brings on Linux")
STREAMS_PER_S, NUM_STREAMS = 8, 16
NUM_STRANGERS = 4


@dataclass
class Fronted:
    port: int
    serve_port: int
    service: MemoryService
    root: Path

    def client(self, key: str | None) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, trust_env=False, timeout=30)

    def new_key(self, name: str) -> tuple[str, str]:
        key, secret = FileKeyRing(self.root).add(name)
        return key.id, secret

    def submit(self, key: str) -> httpx.Response:
        with self.client(key) as client:
            return client.post("/v1/jobs", files={"audio": ("a.wav", b"a"), "video": ("v.mp4", b"v")})


@pytest.fixture
def fronted(tmp_path: Path) -> Iterator[Fronted]:
    service = MemoryService(tmp_path)
    with serving(service) as url:
        serve_port = urlsplit(url).port or 0
        with _front(serve_port) as port:
            yield Fronted(port, serve_port, service, tmp_path)


@contextmanager
def _front(serve_port: int, **limits: Any) -> Iterator[int]:
    assert PROGRAM is not None
    port = quiet_port()
    front = FrontProxy(PROGRAM, "127.0.0.1", port, serve_port, limits=FrontLimits(**limits))
    front.start()
    try:
        yield port
    finally:
        front.close()


def test_callers_without_a_key_take_no_event_streams(fronted: Fronted) -> None:
    _, secret = fronted.new_key("one")
    job = fronted.submit(secret).json()["id"]
    is_over = threading.Event()

    def attack(path: str) -> Counter[int]:
        statuses: Counter[int] = Counter()
        with fronted.client(None) as client:
            while not is_over.is_set():
                statuses[client.get(path).status_code] += 1
                time.sleep(0.04)
        return statuses

    followed: Counter[int] = Counter()
    with ThreadPoolExecutor(2 * NUM_STRANGERS) as pool, ExitStack() as stack:
        paths = ("/x/events", f"/v1/jobs/{job}/events")
        attacks = [pool.submit(attack, path) for path in paths for _ in range(NUM_STRANGERS)]
        stack.callback(is_over.set)
        client = stack.enter_context(fronted.client(secret))
        time.sleep(0.5)
        for _ in range(NUM_STREAMS):
            stream = stack.enter_context(client.stream("GET", f"/v1/jobs/{job}/events"))
            followed[stream.status_code] += 1
            time.sleep(1 / STREAMS_PER_S)
        is_over.set()
        refused = sum((attack.result() for attack in attacks), Counter[int]())
    assert followed == {200: NUM_STREAMS}
    assert set(refused) <= {401, 503} and refused[401] > 2 * NUM_STREAMS, refused


def test_one_key_does_not_take_the_upload_slots_of_others(fronted: Fronted) -> None:
    (_, first), (_, second) = fronted.new_key("one"), fronted.new_key("two")
    with (
        _front(fronted.serve_port, max_uploads=8, upload_share=4, max_spare_uploads=2, queue_s=2) as port,
        ExitStack() as stack,
    ):
        fronted.port = port
        for key in (first, second):
            assert fronted.submit(key).status_code == 202  # the front knows the key from here on
        for number in range(20):
            stack.enter_context(_slow_upload(port, f"{' ' * number}{first}"))  # spelled in other ways
        time.sleep(0.5)
        assert {fronted.submit(second).status_code for _ in range(3)} == {202}


def test_bodies_without_a_key_take_no_upload_slots(fronted: Fronted) -> None:
    _, key = fronted.new_key("one")
    limits = {
        "max_uploads": 8,
        "upload_share": 8,
        "max_spare_uploads": 1,
        "max_new_uploads": 4,
        "new_share": 3,
        "queue_s": 2,
    }
    with _front(fronted.serve_port, **limits) as port, ExitStack() as stack:
        fronted.port = port
        with fronted.client(key) as client:
            assert client.get("/v1/jobs").status_code == 200  # the front knows the key from here on
        lines = [
            stack.enter_context(_slow_upload(port, "lw_unknown", f"127.0.0.{2 + number % 5}")) for number in range(40)
        ]
        time.sleep(0.5)
        assert {fronted.submit(key).status_code for _ in range(3)} == {202}
        statuses = Counter(line.recv(4096)[9:12] for line in lines)
    assert set(statuses) == {b"401", b"503"} and statuses[b"503"] >= 20, statuses


def test_uploads_leave_the_slots_of_downloads(fronted: Fronted) -> None:
    _, key = fronted.new_key("one")
    with _front(fronted.serve_port, max_uploads=2, max_downloads=2, queue_s=2) as port, ExitStack() as stack:
        fronted.port = port
        job = fronted.submit(key).json()["id"]
        fronted.service.finish(job)
        for _ in range(4):
            stack.enter_context(_slow_upload(port, key))
        time.sleep(0.5)
        with fronted.client(key) as client:
            assert client.get(f"/v1/jobs/{job}/video").content == VIDEO_BYTES


def test_previews_do_not_take_the_slots_of_short_requests(fronted: Fronted) -> None:
    _, key = fronted.new_key("one")
    with _front(fronted.serve_port, max_quick=1, queue_s=2) as port, ExitStack() as stack:
        fronted.port = port
        job = fronted.submit(key).json()["id"]
        client = stack.enter_context(fronted.client(key))
        for _ in range(3):  # each lasts as long as the job
            preview = stack.enter_context(client.stream("GET", f"/v1/jobs/{job}/preview"))
            assert preview.status_code == 200
        assert client.get("/v1/jobs").status_code == 200
        fronted.service.fail(job, LipwrightError())


def test_the_name_of_the_caller_stays_inside(fronted: Fronted) -> None:
    key_id, secret = fronted.new_key("one")
    with fronted.client(secret) as client:
        assert CALLER_HEADER not in client.get("/v1/jobs").headers
        client.base_url = f"http://127.0.0.1:{fronted.serve_port}"
        assert CALLER_HEADER not in client.get("/v1/jobs").headers
        behind = client.get("/v1/jobs", headers={FRONT_HEADER: "127.0.0.1 1.1"})
        assert behind.headers[CALLER_HEADER] == key_id
        for path, fields in (("/v1/jobs", {"Authorization": "Bearer lw_x"}), ("/healthz", {})):
            assert CALLER_HEADER not in client.get(path, headers={FRONT_HEADER: "127.0.0.1 1.1", **fields}).headers


def _slow_upload(port: int, key: str, source: str = "127.0.0.1") -> socket.socket:
    """A connection that announces a body and sends a part of it."""
    line = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))
    line.sendall(
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 200000\r\n\r\n--b\r\n".encode()
    )
    return line
