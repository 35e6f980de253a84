"""Live sessions under attack and after crashes: running sessions continue, and hostile clients get an error only."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress

import numpy as np
import psutil
import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.faults.health_probe import HealthProbe
from tests.faults.load import IS_ENDURANCE, Caller, Pair
from tests.faults.service_process import ServiceProcess
from tests.faults.viewer import Viewer, live_url, made_avatar, watching
from tests.waiting import wait_until

NUM_HOSTILE, NUM_AT_ONCE, ATTACK_S = (200, 40, 30) if IS_ENDURANCE else (60, 40, 5)
MAX_GROWTH_BYTES = 400 * 1024**2  # LiveSession keeps up to 256 MiB of freed buffers


@pytest.fixture(scope="module")
def avatar(service: ServiceProcess, sample_pair: Pair) -> str:
    return made_avatar(service, sample_pair)


def _place(viewer: Viewer, state: str, after: int) -> int:
    """Where the first word of a state after that place stands among the events."""
    return min(number for number, said in enumerate(viewer.events) if number > after and said.get("state") == state)


@pytest.mark.timeout(600)
def test_hostile_sockets_disturb_no_session(service: ServiceProcess, avatar: str, sample_pair: Pair) -> None:
    caller = Caller(service.url)
    with watching(service, avatar) as viewer:
        viewer.until(10)
        before = _memory(service)
        job = caller.accepted(sample_pair)
        started, num_before = time.monotonic(), len(viewer.arrivals)
        with HealthProbe(service.url) as health:
            ends = asyncio.run(_attack(live_url(service, avatar)))
            took_s = time.monotonic() - started
            assert caller.wait([job], 200)[job]["status"] == "succeeded"
        viewer.until(len(viewer.arrivals) + 10)
        grown = _memory(service) - before
        p99 = health.percentile(0.99)
        print(
            f"\nlive: {dict(ends)} in {took_s:.1f} s, grown by {grown / 2**20:.0f} MiB, "
            f"health p99 {1000 * p99:.0f} ms, {len(viewer.arrivals) - num_before} chunks meanwhile"
        )
        viewer.check_whole()
    assert ends.total() == NUM_HOSTILE
    assert grown < MAX_GROWTH_BYTES
    assert p99 < health.bound(2.5)  # 10 times what a quiet machine needs with a job and a session
    with watching(service, avatar) as viewer:
        viewer.until(3)


@pytest.mark.timeout(600)
def test_a_session_outlives_the_replica_that_renders_it(service: ServiceProcess, avatar: str) -> None:
    with watching(service, avatar) as viewer:
        viewer.until(10)
        (replica,) = service.replicas("LiveSession")
        num_before, killed_at = len(viewer.arrivals), len(viewer.events) - 1
        # On a busy machine the avatar may have been shown idle before, too.
        num_connected = viewer.states.count("connected")
        replica.kill()
        viewer.until_state("connected", num_connected + 1)
        viewer.until(len(viewer.arrivals) + 10)
        states = viewer.states
        gaps, kinds = np.diff(viewer.arrivals), [said["type"] for said in viewer.events]
        lost_at = _place(viewer, "recovering", killed_at)
        num_idle = kinds[lost_at : _place(viewer, "connected", lost_at)].count("session.fragment")
        print(f"\nlive: {max(gaps[num_before - 1 :]):.1f} s without a picture, {num_idle} chunks of idle frames")
        assert states == (["connecting", "connected"] + ["recovering", "connected"] * len(states))[: len(states)]
        assert num_idle >= 5, "the avatar is seen while nobody renders"
        viewer.check_whole()


@pytest.mark.timeout(300)
def test_a_client_that_shows_nothing_is_sent_little_and_closed(service: ServiceProcess, avatar: str) -> None:
    with watching(service, avatar) as viewer:
        viewer.shows = False
        wait_until(lambda: viewer.close_code is not None)
        assert viewer.close_code == 1008
        assert "too slow" in viewer.of("session.ended")[0]["message"]
        assert viewer.of("session.fragment")[-1]["start_seconds"] < viewer.shown_seconds + 4


async def _attack(address: str) -> Counter[str]:
    """Sockets, forty at a time, each as nasty as its number says; how they ended."""
    ends: Counter[str] = Counter()
    turn = asyncio.Semaphore(NUM_AT_ONCE)

    async def one(number: int) -> None:
        async with turn:
            try:
                async with asyncio.timeout(ATTACK_S):
                    ends[await _attacks[number % len(_attacks)](address)] += 1
            except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError) as error:
                ends[type(error).__name__] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(NUM_HOSTILE):
            group.create_task(one(number))
    return ends


async def _says_nothing(address: str) -> str:
    async with connect_async(address, proxy=None, compression=None) as line:
        async for _ in line:
            pass
        return str(line.close_code)


async def _sends_garbage(address: str) -> str:
    noise = random.Random(1)
    async with connect_async(address, proxy=None, compression=None) as line:
        with suppress(ConnectionClosed):
            for _ in range(50):
                await line.send(noise.randbytes(2000).hex())
                await line.send(noise.randbytes(999))
        await line.wait_closed()
        return str(line.close_code)


async def _sends_too_much(address: str) -> str:
    async with connect_async(address, proxy=None, compression=None) as line:
        with suppress(ConnectionClosed):
            for _ in range(20):
                await line.send(bytes(4 * 1024**2))
        await line.wait_closed()
        return str(line.close_code)


async def _vanishes(address: str) -> str:
    async with connect_async(address, proxy=None, compression=None) as line:
        line.transport.abort()
    return "vanished"


async def _never_finishes_its_request(address: str) -> str:
    host, _, port = address.split("/")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n")
    with suppress(TimeoutError):
        await asyncio.wait_for(reader.read(100), 3)
    writer.close()
    return "unfinished"


_attacks = (_says_nothing, _sends_garbage, _sends_too_much, _vanishes, _never_finishes_its_request)


def _memory(service: ServiceProcess) -> int:
    """Memory of the processes that sockets pass through."""
    total = 0
    for process in service.processes():
        with suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if any(name in title for name in ("Ingress", "ProxyActor", "LiveSession", "haproxy")):
                total += process.memory_info().rss
    return total
