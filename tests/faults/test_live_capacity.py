"""As many live sessions as the service accepts: all go on, and memory levels off."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from benchmarks.live.capacity import watch_all
from benchmarks.live.latency import avatar
from lipwright_client import Lipwright
from tests.faults.load import LOAD_MINUTES
from tests.faults.memory import DECODERS, MemoryWatch
from tests.faults.service_process import served

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(60 * LOAD_MINUTES + 900)]

GROWTH_MIB = 60.0  # of one process, from the third tenth of the time to the last


def test_live_at_capacity_keeps_sessions_and_refuses_the_next(tmp_path: Path) -> None:
    with served(tmp_path / "data") as service:
        avatar_id = avatar(service.url)
        with Lipwright(service.url) as client:
            client.avatars.wait(avatar_id, 600).check()
        with MemoryWatch(service) as watch:
            found = asyncio.run(watch_all(service.url, avatar_id, 64, 60 * LOAD_MINUTES))
    print(json.dumps(found, indent=1))
    assert not found["ended_early"], found["errors"]
    assert found["errors"] == []
    assert "Try again in" in found["refused"]
    for name in ("Ingress", "LiveSession", f"{DECODERS}LiveSession", "ProxyActor"):
        parts = watch.in_parts(name, 10)
        print(name, [round(mib) for mib in parts])
        assert parts[-1] - parts[2] < GROWTH_MIB, name
