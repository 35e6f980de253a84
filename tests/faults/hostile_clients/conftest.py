"""One service for all hostile clients: whatever they do, it must keep serving others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.load import Caller, Pair
from tests.faults.service_process import ServiceProcess, config_with, served


@pytest.fixture(scope="package")
def upload_pause_s() -> float:
    """Longest pause of an upload here, less than half of what it is by default."""
    return 8.0


@pytest.fixture(scope="package")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of the service."""
    return tmp_path_factory.mktemp("hostile_clients") / "data"


@pytest.fixture(scope="package")
def service(data_dir: Path, upload_pause_s: float) -> Iterator[ServiceProcess]:
    """The service under attack."""
    config = config_with(data_dir.parent, jobs={"max_running_jobs": 2}, limits={"max_upload_pause_s": upload_pause_s})
    # The tests turn Ray's token off; hostile clients attack a service that has it on.
    with served(data_dir, config, inside=("env", "--unset=RAY_AUTH_MODE")) as service:
        yield service


@pytest.fixture(scope="package")
def caller(service: ServiceProcess, portrait_pair: Pair) -> Caller:
    """Somebody who means well, after a first job: what is slow the first time is done."""
    caller = Caller(service.url)
    caller.wait([caller.accepted(portrait_pair)], 120)
    return caller
