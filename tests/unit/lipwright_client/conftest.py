"""A service in memory, and its client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lipwright_client import Lipwright
from tests.unit.api_server import MemoryService, serving


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return MemoryService(tmp_path / "data")


@pytest.fixture
def url(service: MemoryService) -> Iterator[str]:
    with serving(service) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Lipwright]:
    with Lipwright(url) as client:
        yield client
