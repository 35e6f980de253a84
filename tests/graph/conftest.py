"""Two real services for all graph tests; they end with them, so that they take nothing from what comes after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.media_files import read_wav, write_wav
from lipwright.launch.service import private_config, running_service
from tests.faults.load import Caller, Pair
from tests.faults.service_process import ServiceProcess, config_with, served
from tests.otlp_collector import Collector, collecting
from tests.unit.speech.openai_server import OpenAIStandIn, answering


@pytest.fixture(scope="package")
def heygem_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that clients of HeyGem share with the service."""
    return tmp_path_factory.mktemp("heygem")


@pytest.fixture(scope="package")
def service_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of `service_url`."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="package")
def translator() -> Iterator[OpenAIStandIn]:
    """The server that transcribes and translates for `service_url`."""
    with answering() as server:
        yield server


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    """Where `service_url` exports its spans."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="package")
def service_url(
    tmp_path_factory: pytest.TempPathFactory,
    service_data: Path,
    heygem_root: Path,
    translator: OpenAIStandIn,
    collector: Collector,
) -> Iterator[str]:
    """The service as `lipwright serve --heygem-root` starts it, on a free loopback port and an empty data folder."""
    # What a busy machine renders late is waited for here: nothing stands in for it, and all pictures are the same.
    config = config_with(
        tmp_path_factory.mktemp("config"),
        live={"fallback_after_s": 60.0, "max_sessions": 1},
        subtitles={"transcription_url": translator.url, "translation_url": translator.url},
    )
    served = private_config(service_data, config)
    heygem = {"enabled": True, "root": str(heygem_root)}
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as environment:  # Ray's processes inherit it
            environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            url = stack.enter_context(running_service(served.on_this_machine(port=0, heygem=heygem)))
        yield url


@pytest.fixture(scope="package")
def strict_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of `strict`."""
    return tmp_path_factory.mktemp("strict") / "data"


@pytest.fixture(scope="package")
def strict_keep_s() -> float:
    """How long `strict` keeps finished jobs."""
    return 20.0


@pytest.fixture(scope="package")
def strict(strict_data: Path, strict_keep_s: float) -> Iterator[ServiceProcess]:
    """A service as a process of its own: one job at a time, a short queue, a short memory, webhooks to loopback."""
    config = config_with(
        strict_data.parent,
        jobs={"max_running_jobs": 1, "max_queued_jobs": 4, "retention_s": strict_keep_s},
        network={"allowed_networks": ["127.0.0.0/8"]},
    )
    with served(strict_data, config) as service:
        yield service


@pytest.fixture(scope="package")
def caller(strict: ServiceProcess) -> Caller:
    """A caller of `strict`."""
    return Caller(strict.url)


@pytest.fixture(scope="package")
def short(portrait: Path, short_speech: Path) -> Pair:
    return Pair(portrait.read_bytes(), short_speech.read_bytes())


@pytest.fixture(scope="package")
def first(caller: Caller, short: Pair) -> dict[str, Any]:
    """A finished job of `strict`."""
    job_id = caller.accepted(short)
    return caller.wait([job_id], 120)[job_id]


@pytest.fixture(scope="package")
def client(service_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def portrait(sample_portrait: Path) -> Path:
    return sample_portrait


@pytest.fixture(scope="session")
def speech(sample_speech: Path) -> Path:
    return sample_speech


@pytest.fixture(scope="session")
def short_speech(samples: Path) -> Path:
    return samples / "speech_short.wav"


@pytest.fixture(scope="session")
def long_speech(sample_speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample speech, eight times over: long enough to be cancelled in the middle."""
    samples, rate = read_wav(sample_speech)
    return write_wav(tmp_path_factory.mktemp("long") / "long.wav", np.tile(samples, 8), rate)
