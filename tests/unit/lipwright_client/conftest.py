"""A service in memory, and its client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lipwright_client import Lipwright


@pytest.fixture
def client(url: str) -> Iterator[Lipwright]:
    with Lipwright(url) as client:
        yield client
