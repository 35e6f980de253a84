"""Slots for texts: who waits, who goes first, and when a text is refused."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from config import TtsConfig
from errors import CapacityError
from speech import voice_slots
from speech.service import Purpose, TtsService
from speech.voice_slots import VoiceSlots
from tests.unit.speech.fake_backend import FakeBackend


class Texts:
    """Texts that are spoken until they are told to end."""

    def __init__(self, num_slots: int, max_wait_s: float = 20.0) -> None:
        self.slots = VoiceSlots(num_slots, max_wait_s)
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def send(self, *names: str) -> None:
        """The first letter of a name is its caller."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._speak(name))
            await _settle()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self._tasks[name]
        await _settle()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.gather(self._tasks[name], return_exceptions=True)
        await _settle()

    async def _speak(self, name: str) -> None:
        async with self.slots.take(name[0]):
            self.begun.append(name)
            await self._ends[name].wait()


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_take_with_all_slots_taken_waits_for_one() -> None:
    texts = Texts(2)
    await texts.send("a1", "a2", "a3", "a4")
    assert texts.begun == ["a1", "a2"]
    await texts.end("a2")
    await texts.end("a1")
    assert texts.begun == ["a1", "a2", "a3", "a4"]


@pytest.mark.parametrize("num_slots", [1, 2])
async def test_take_by_several_callers_serves_them_in_turn(num_slots: int) -> None:
    texts = Texts(num_slots)
    await texts.send("a1", "a2", "a3", "a4", "a5", "b1", "b2", "c1")
    for number in range(5):
        await texts.end(texts.begun[number])
    assert sorted(texts.begun[num_slots : num_slots + 2]) == ["b1", "c1"], texts.begun
    assert "b2" in texts.begun and "a5" not in texts.begun


async def test_take_with_too_many_waiting_says_when_to_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice_slots, "_MAX_WAITING", 2)
    texts = Texts(1)
    await texts.send("a1", "a2", "a3", "b1")
    with pytest.raises(CapacityError, match="2 texts are waiting") as full:
        async with texts.slots.take("a"):
            pass
    assert (full.value.status_code, full.value.retry_after_s >= 1) == (429, True)


async def test_take_without_a_free_slot_in_time_is_refused() -> None:
    texts = Texts(1, max_wait_s=0.05)
    await texts.send("a1")
    with pytest.raises(CapacityError, match=r"within 0.05 s"):
        async with texts.slots.take("b"):
            pass
    await texts.end("a1")
    await texts.send("b1")
    assert texts.begun == ["a1", "b1"]


async def test_take_cancelled_while_waiting_frees_its_place() -> None:
    texts = Texts(1)
    await texts.send("a1", "b1", "c1")
    await texts.cancel("b1")
    texts._tasks["c1"].cancel()  # at the same time as it gets the slot
    await texts.end("a1")
    await texts.send("d1")
    assert texts.begun == ["a1", "d1"]


async def test_synthesize_releases_the_slot_after_each_text() -> None:
    service = TtsService(TtsConfig(max_concurrent=1), FakeBackend(), "beep")
    order: list[str] = []

    async def dub() -> None:
        for number in range(3):
            async for piece in service.synthesize(f"cue {number}", None, "a", "jobs"):
                order.append(piece.decode())
                await _settle()

    async def other() -> None:
        async for piece in service.synthesize("other", None, "b", "jobs"):
            order.append(piece.decode())

    await asyncio.gather(dub(), other())
    assert order == ["cue 0", "other", "cue 1", "cue 2"]


async def test_synthesize_for_live_does_not_wait_for_jobs() -> None:
    service = TtsService(TtsConfig(max_concurrent=1, max_wait_s=5), FakeBackend(), "beep")
    async with aclosing(service.synthesize("cue", None, "a", "jobs")) as cue:
        await anext(cue)  # holds the slot of jobs
        waiting = asyncio.create_task(_spoken(service, "another cue", "a", "jobs"))
        await _settle()
        assert await _spoken(service, "live", "a", "live") == "live"
        assert await _spoken(service, "request", "a", "requests") == "request"
        assert not waiting.done()
    assert await waiting == "another cue"


async def _spoken(service: TtsService, text: str, owner: str, purpose: Purpose) -> str:
    return b"".join([piece async for piece in service.synthesize(text, None, owner, purpose)]).decode()
