"""The front proxy before the real API in memory, with API keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from launch.front_config import FrontLimits
from launch.front_proxy import FrontProxy, haproxy_binary
from storage.local.api_keys import FileKeyRing
from tests.ports import quiet_port
from tests.unit.api_server import MemoryService, serving


@dataclass
class Fronted:
    """The front proxy and what is behind it.

    Attributes:
        port: TCP port of the front proxy.
        service: The service behind the API.
        keys: Its API keys.
        front: The front proxy.
    """

    port: int
    service: MemoryService
    keys: FileKeyRing
    front: FrontProxy

    def client(self, key: str | None = None) -> httpx.Client:
        """A client with an API key, or without."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, trust_env=False, timeout=30)

    def new_key(self, name: str) -> str:
        """Add an API key, and wait until the front proxy knows it."""
        key, secret = self.keys.add(name)
        deadline = time.monotonic() + 30
        while key.id not in self.front._known:
            assert time.monotonic() < deadline, "the front proxy did not take the key"
            time.sleep(0.05)
        return secret

    def submit(self, key: str | None = None) -> httpx.Response:
        """Send a small job."""
        with self.client(key) as client:
            return client.post("/v1/jobs", files={"audio": ("a.wav", b"a"), "video": ("v.mp4", b"v")})


@contextmanager
def fronted_api(root: Path, **limits: Any) -> Iterator[Fronted]:
    """Run both for the block."""
    program, service, keys = haproxy_binary(), MemoryService(root), FileKeyRing(root)
    assert program is not None
    with serving(service) as url:
        port, serve_port = quiet_port(), urlsplit(url).port or 0
        front = FrontProxy(program, "127.0.0.1", port, serve_port, limits=FrontLimits(**limits), keys=keys)
        front.start()
        try:
            yield Fronted(port, service, keys, front)
        finally:
            front.close()
