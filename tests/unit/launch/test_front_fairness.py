"""The front before the real API: callers without a key, or with one, do not take the slots of others."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from errors import LipwrightError
from tests.unit.api_server import VIDEO_BYTES
from tests.unit.launch.fronted_api import Fronted, fronted_api, needs_haproxy

pytestmark = needs_haproxy
STREAMS_PER_S, NUM_STREAMS = 8, 16
NUM_STRANGERS = 4


@pytest.fixture
def fronted(tmp_path: Path) -> Iterator[Fronted]:
    with fronted_api(tmp_path) as fronted:
        yield fronted


def test_front_callers_without_a_key_get_no_event_streams(fronted: Fronted) -> None:
    secret = fronted.new_key("one")
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


def test_front_uploads_of_a_key_leave_slots_for_others(tmp_path: Path) -> None:
    limits = {"max_uploads": 8, "upload_share": 4, "max_spare_uploads": 2, "queue_s": 2}
    with fronted_api(tmp_path, **limits) as fronted, ExitStack() as stack:
        first, second = fronted.new_key("one"), fronted.new_key("two")
        for number in range(20):
            stack.enter_context(_slow_upload(fronted.port, f"{' ' * number}{first}"))  # spelled in other ways
        time.sleep(0.5)
        assert {fronted.submit(second).status_code for _ in range(3)} == {202}


def test_front_bodies_without_a_key_get_no_upload_slots(tmp_path: Path) -> None:
    limits = {"max_uploads": 8, "upload_share": 8, "max_spare_uploads": 1, "max_unknown": 4, "unknown_share": 3}
    with fronted_api(tmp_path, **limits, queue_s=2) as fronted, ExitStack() as stack:
        key = fronted.new_key("one")
        lines = [
            stack.enter_context(_slow_upload(fronted.port, "lw_unknown", f"127.0.0.{2 + number % 5}"))
            for number in range(40)
        ]
        time.sleep(0.5)
        assert {fronted.submit(key).status_code for _ in range(3)} == {202}
        statuses = Counter(line.recv(4096)[9:12] for line in lines)
    assert set(statuses) == {b"401", b"503"} and statuses[b"503"] >= 20, statuses


def test_front_uploads_leave_slots_for_downloads(tmp_path: Path) -> None:
    with fronted_api(tmp_path, max_uploads=2, max_downloads=2, queue_s=2) as fronted, ExitStack() as stack:
        key = fronted.new_key("one")
        job = fronted.submit(key).json()["id"]
        fronted.service.finish(job)
        for _ in range(4):
            stack.enter_context(_slow_upload(fronted.port, key))
        time.sleep(0.5)
        with fronted.client(key) as client:
            assert client.get(f"/v1/jobs/{job}/video").content == VIDEO_BYTES


def test_front_previews_leave_slots_for_short_requests(tmp_path: Path) -> None:
    with fronted_api(tmp_path, max_quick=1, queue_s=2) as fronted, ExitStack() as stack:
        key = fronted.new_key("one")
        job = fronted.submit(key).json()["id"]
        client = stack.enter_context(fronted.client(key))
        for _ in range(3):  # each lasts as long as the job
            preview = stack.enter_context(client.stream("GET", f"/v1/jobs/{job}/preview"))
            assert preview.status_code == 200
        assert client.get("/v1/jobs").status_code == 200
        fronted.service.fail(job, LipwrightError())


def _slow_upload(port: int, key: str, source: str = "127.0.0.1") -> socket.socket:
    """A connection that announces a body and sends a part of it."""
    line = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))
    line.sendall(
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 200000\r\n\r\n--b\r\n".encode()
    )
    return line
