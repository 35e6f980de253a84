"""What a replica holds in memory: loaded once, beside whatever else runs, dropped when nobody uses it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from deployments.runtime.model_cache import ModelCache
from lipwright.config import EngineCacheConfig


@dataclass
class Loads:
    """Counts what is loaded; `gate` holds loads of "slow" back, and the first ones raise `errors`."""

    errors: list[OSError] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)

    def of(self, name: str) -> Callable[[], str]:
        def load() -> str:
            self.names.append(name)
            self.started.set()
            if name == "slow":
                assert self.gate.wait(60)
            if self.errors:
                raise self.errors.pop()
            return name.upper()

        return load


def cache(max_loaded: int = 2, max_idle_s: float = 60.0) -> ModelCache[str]:
    config = EngineCacheConfig(max_loaded=max_loaded, max_idle_s=max_idle_s)
    kept: ModelCache[str] = ModelCache("Stage", config, "default")
    kept.put("default", "DEFAULT")
    return kept


async def used(kept: ModelCache[str], loads: Loads, name: str) -> str:
    async with kept.use(name, loads.of(name)) as thing:
        return thing


async def test_loading_one_stalls_nobody_who_uses_another() -> None:
    kept, loads = cache(), Loads()
    waiting = [asyncio.create_task(used(kept, loads, "slow")) for _ in range(3)]
    assert await asyncio.to_thread(loads.started.wait, 60)
    assert await asyncio.wait_for(used(kept, loads, "default"), 30) == "DEFAULT"
    assert not any(task.done() for task in waiting)
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    loads.gate.set()
    assert await asyncio.gather(*waiting[1:]) == ["SLOW"] * 2, "the first who asked may leave"
    assert loads.names == ["slow"], "loaded once for all"


async def test_what_was_loaded_for_nobody_is_dropped_too() -> None:
    kept, loads = cache(max_idle_s=0.01), Loads()
    only = asyncio.create_task(used(kept, loads, "slow"))
    assert await asyncio.to_thread(loads.started.wait, 60)
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    kept.sweep()
    loads.gate.set()
    async with asyncio.timeout(60):
        while loads.names == ["slow"]:
            await asyncio.sleep(0.05)
            kept.sweep()
            await used(kept, loads, "slow")


async def test_what_nobody_uses_is_dropped_and_the_default_stays() -> None:
    kept, loads = cache(max_idle_s=0.01), Loads()
    async with kept.use("a", loads.of("a")):
        await asyncio.sleep(0.05)
        kept.sweep()
        assert await used(kept, loads, "a") == "A"
    await asyncio.sleep(0.05)
    kept.sweep()
    assert loads.names == ["a"]
    await used(kept, loads, "a")
    await used(kept, loads, "default")
    assert loads.names == ["a", "a"]


async def test_one_more_drops_the_idlest() -> None:
    kept, loads = cache(max_loaded=3), Loads()
    for name in ("a", "b", "a", "c", "a", "b"):
        await used(kept, loads, name)
    assert loads.names == ["a", "b", "c", "b"]


async def test_load_that_failed_is_tried_again_by_the_next() -> None:
    kept, loads = cache(), Loads([OSError("no such file")])
    with pytest.raises(OSError, match="no such file"):
        await used(kept, loads, "a")
    assert kept.loaded("a") is None
    assert await used(kept, loads, "a") == kept.loaded("a") == "A"


async def test_load_that_failed_without_users_is_tried_again() -> None:
    kept, loads = cache(), Loads([OSError("no such file")])
    user = asyncio.create_task(used(kept, loads, "slow"))
    assert await asyncio.to_thread(loads.started.wait, 60)
    user.cancel()
    await asyncio.wait([user])
    loads.gate.set()
    loading = kept._entries["slow"].loading
    assert loading is not None
    await asyncio.wait([loading])
    assert await used(kept, loads, "slow") == "SLOW"
