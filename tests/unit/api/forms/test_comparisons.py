"""Requests that repeat an idempotency key: one API key compares a few bodies at a time, and delays no other key."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from api.forms import form_receiver
from storage.local.api_keys import FileKeyRing
from tests.unit.api.edge_client import KEY, post, problem
from tests.unit.api_server import MemoryService, serving

NUM_SLOW = form_receiver._MAX_COMPARISONS


def test_one_key_compares_a_few_bodies_at_a_time(tmp_path: Path) -> None:
    (_, first), (_, second) = (FileKeyRing(tmp_path).add(name) for name in ("one", "two"))
    with (
        serving(MemoryService(tmp_path)) as url,
        ExitStack() as stack,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as http,
    ):
        jobs = {key: post(http, headers=_headers(key)).json()["id"] for key in (first, second)}
        slow = [stack.enter_context(_slow_repeat(url, first)) for _ in range(NUM_SLOW)]
        deadline = time.monotonic() + 20
        while (repeated := post(http, headers=_headers(first))).status_code == 202:
            assert time.monotonic() < deadline, "bodies of one key are compared without a bound"
            slow.append(stack.enter_context(_slow_repeat(url, first)))  # this request may have taken a slot from one
        assert int(repeated.headers["retry-after"]) >= 1
        problem(repeated, 503, "busy")
        again = post(http, headers=_headers(second))
        assert (again.status_code, again.json()["id"]) == (202, jobs[second])
        assert post(http, headers={"X-API-Key": first}).status_code == 202, "a new job of the same key"
        for line in slow:
            line.close()
        while (again := post(http, headers=_headers(first))).status_code == 503:
            assert time.monotonic() < deadline, "the slots of broken connections stay taken"
        assert (again.status_code, again.json()["id"]) == (202, jobs[first])


def _headers(key: str) -> dict[str, str]:
    return {**KEY, "X-API-Key": key}


def _slow_repeat(url: str, key: str) -> socket.socket:
    """A connection that announces the body of a repeated request and sends a part of it."""
    line = socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=30)
    line.sendall(
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nIdempotency-Key: k\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 200000\r\n\r\n--b\r\n".encode()
    )
    return line
