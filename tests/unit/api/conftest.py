"""A service in memory behind its API; modules with needs of their own define their own fixtures of these names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from config import AccessConfig
from tests.unit.api_server import MemoryService, serving


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return MemoryService(tmp_path)


@pytest.fixture
def access() -> AccessConfig:
    return AccessConfig()


@pytest.fixture
def http(service: MemoryService, access: AccessConfig) -> Iterator[httpx.Client]:
    with serving(service, access=access) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        yield client
