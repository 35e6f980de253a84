"""A job's events when the Director dies: each once, and the last one always."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.load import FINAL, Caller, Pair
from tests.faults.service_process import ServiceProcess
from tests.graph.long_inputs import long_wav

FOLLOW_S = 150.0


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    version: int
    name: str
    data: dict[str, Any]

    @property
    def is_final(self) -> bool:
        return self.name == "job" and self.data["status"] in FINAL


def events(url: str, job_id: str, seen: int | None = None) -> Iterator[Event]:
    """The events of one connection; it may break."""
    headers = {} if seen is None else {"Last-Event-ID": str(seen)}
    path = f"{url}/v1/jobs/{job_id}/events"
    with (
        suppress(httpx.TransportError),
        httpx.stream("GET", path, headers=headers, timeout=FOLLOW_S, trust_env=False) as answer,
    ):
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "event" in fields:
                yield Event(int(fields.get("id", -1)), fields["event"], json.loads(fields["data"]))
                fields = {}


@pytest.fixture(scope="module")
def caller(strict: ServiceProcess) -> Caller:
    return Caller(strict.url)


def test_a_dead_director_costs_no_event_that_matters(
    caller: Caller, strict: ServiceProcess, portrait: Path, speech: Path
) -> None:
    job_id = caller.accepted(Pair(portrait.read_bytes(), long_wav(speech, 12)))
    (director,) = strict.replicas("Director")
    heard: list[Event] = []
    num_lines, deadline = 0, time.monotonic() + FOLLOW_S
    killed_at = 0
    while not (heard and heard[-1].is_final):
        assert time.monotonic() < deadline, heard[-1:]
        num_lines += 1
        for event in events(strict.url, job_id, seen=heard[-1].version if heard else None):
            if event.name != "job":
                continue  # `problem`: the stream ends, and we come again
            heard.append(event)
            if not killed_at and event.data["num_frames_done"] > 0:
                director.kill()
                killed_at = event.version
        time.sleep(0.2)
    print(f"\nevents: {len(heard)} over {num_lines} connections, Director killed at version {killed_at}")
    assert killed_at
    versions = [event.version for event in heard]
    assert versions == sorted(set(versions)), "none twice, none out of order"
    assert heard[-1].data["status"] == "succeeded", heard[-1].data["error"]
    assert heard[-1].data == caller.job(job_id)
    progress = [event.data["progress"] for event in heard]
    assert max(progress[:-1]) < 1.0 == progress[-1]
    assert not director.is_running()
