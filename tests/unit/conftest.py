"""Unit tests know no Ray: whatever they cover runs in one process."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.otlp_collector import Collector
    from tests.unit.api_server import MemoryService


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    """A service in memory: `url` is its API and `http` a client of it."""
    from tests.unit.api_server import MemoryService  # imports the API, which few tests need

    return MemoryService(tmp_path / "service")


@pytest.fixture
def api_settings() -> dict[str, Any]:
    """Keyword arguments of `serving`, for modules and tests to override."""
    return {}


@pytest.fixture
def url(service: MemoryService, api_settings: dict[str, Any]) -> Iterator[str]:
    """The URL of the API over `service`, on a real socket."""
    from tests.unit.api_server import serving

    with serving(service, **api_settings) as url:
        yield url


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60, trust_env=False, verify=False) as client:
        yield client


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector to which this process exports its spans."""
    from lipwright.telemetry import tracing
    from tests.otlp_collector import collecting

    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        monkeypatch.setattr(tracing, "_exporter", None)
        tracing.start_tracing("unit test")
        yield collector
        assert tracing._exporter is not None
        tracing._exporter._provider.shutdown()


@pytest.fixture(autouse=True)
def _no_ray_cluster() -> Iterator[None]:
    """Fail a unit test that started or joined a Ray cluster, and end the cluster.

    In a run of the whole suite the cluster of tests/graph may still be up: that one is nobody's fault here.
    """
    was_up = _is_ray_up()
    yield
    if _is_ray_up() and not was_up:
        sys.modules["ray"].shutdown()
        pytest.fail("A unit test started Ray; tests that need a cluster belong in tests/graph.", pytrace=False)


@pytest.fixture(autouse=True)
def _no_forwarded_logs() -> None:
    """Undo `configure_logging`, which deployments call: `caplog` would see records twice."""
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            for handler in logger.handlers[:]:
                if type(handler).__module__ == "lipwright.telemetry.log_context":
                    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def _normal_scheduling() -> Iterator[None]:
    """Fail a test that leaves this process with real-time priority; see `normal_scheduling`."""
    yield
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        pytest.fail("The test left this process with real-time priority; encode in `normal_scheduling`.", pytrace=False)


@pytest.fixture
def own_temp_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `tempfile` use the test's folder, for libraries that leave files behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def _is_ray_up() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())
