"""Unit tests know no Ray: whatever they cover runs in one process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_ray_cluster() -> Iterator[None]:
    """Fail a unit test that started or joined a Ray cluster, and end the cluster."""
    yield
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
        pytest.fail("A unit test started Ray; tests that need a cluster belong in tests/graph.", pytrace=False)
