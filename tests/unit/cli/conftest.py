"""A service in memory behind the API on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.api_server import MemoryService, serving


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return MemoryService(tmp_path / "service")


@pytest.fixture
def url(service: MemoryService) -> Iterator[str]:
    with serving(service) as url:
        yield url
