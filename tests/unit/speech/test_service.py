"""Texts that wait until a voice is free."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from config import TtsConfig
from errors import CapacityError
from speech.service import Purpose, TtsService
from tests.unit.speech.fake_backend import FakeBackend


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


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


async def test_synthesize_without_a_free_voice_says_when_to_retry() -> None:
    service = TtsService(TtsConfig(max_concurrent=1, max_wait_s=0.05), FakeBackend(), "beep")
    async with aclosing(service.synthesize("spoken", None, "a", "live")) as pieces:
        await anext(pieces)
        with pytest.raises(CapacityError, match="the voice: none was free for 0.05 s") as full:
            await _spoken(service, "refused", "a", "live")
    assert (full.value.status_code, full.value.retry_after_s >= 1) == (429, True)
