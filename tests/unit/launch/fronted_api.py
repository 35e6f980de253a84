"""The front proxy before any server, and before the real API in memory with API keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from lipwright.launch.front_config import FrontLimits
from lipwright.launch.front_proxy import FrontProxy, haproxy_binary
from lipwright.storage.local.api_keys import FileKeyRing
from tests.ports import quiet_port
from tests.unit.api_server import MemoryService, serving
from tests.waiting import wait_until

needs_haproxy = pytest.mark.skipif(haproxy_binary() is None, reason="needs HAProxy, which `ray[serve]` brings on Linux")


@dataclass
class Fronted:
    """The front proxy, its TCP port, and what is behind it."""

    port: int
    service: MemoryService
    keys: FileKeyRing
    front: FrontProxy

    def client(self, key: str | None = None) -> httpx.Client:
        """A client with an API key, or without."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        url = f"http://127.0.0.1:{self.port}"
        return httpx.Client(base_url=url, headers=headers, trust_env=False, verify=False, timeout=30)

    def new_key(self, name: str) -> str:
        """Add an API key, and wait until the front proxy knows it."""
        key, secret = self.keys.add(name)
        wait_until(lambda: key.id in self.front._known)
        return secret

    def submit(self, key: str | None = None) -> httpx.Response:
        """Send a small job."""
        with self.client(key) as client:
            return client.post("/v1/jobs", files={"audio": ("a.wav", b"a"), "video": ("v.mp4", b"v")})


def kill(front: FrontProxy) -> None:
    """End the process of a front proxy, which keeps its listeners."""
    assert front._process is not None
    front._process.kill()
    front._process.wait()


@contextmanager
def running_front(serve_port: int, host: str = "127.0.0.1", **settings: Any) -> Iterator[tuple[FrontProxy, int]]:
    """A front proxy before a port, and its own; `settings` are arguments of `FrontProxy`."""
    program, port = haproxy_binary(), quiet_port()
    assert program is not None
    front = FrontProxy(program, host, port, serve_port, **settings)
    front.start()
    try:
        yield front, port
    finally:
        front.close()


@contextmanager
def fronted_api(root: Path, **limits: Any) -> Iterator[Fronted]:
    """Run both for the block."""
    service, keys = MemoryService(root), FileKeyRing(root)
    with (
        serving(service) as url,
        running_front(urlsplit(url).port or 0, limits=FrontLimits(**limits), keys=keys) as (front, port),
    ):
        yield Fronted(port, service, keys, front)
