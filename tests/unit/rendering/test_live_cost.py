"""What a live session costs, by chunks whose cost is known."""

from __future__ import annotations

import asyncio

import pytest

from config import LiveConfig
from jobs.messages import AvatarRef, ResolvedAvatar, SourceVideo
from media.live.encoder import EncodedPictures
from media.live.mp4_boxes import ParameterSets
from rendering.live_chunk import LiveChunk, LiveChunkRequest
from rendering.live_cost import measure_cost
from tests.unit.api.live.live_parts import INFO

PICTURES = EncodedPictures((), ParameterSets(b"", b""))


class Costly:
    """A silent chunk takes 20 ms, a spoken one 40 ms, and the first two a second."""

    def __init__(self) -> None:
        self.requests: list[LiveChunkRequest] = []

    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        self.requests.append(request)
        busy_s = 1.0 if len(self.requests) <= 2 else 0.02 if request.window.is_silent else 0.04
        return LiveChunk(PICTURES, request.first_frame, busy_s)


def test_measure_cost_is_the_mean_of_silence_and_speech() -> None:
    renderer = Costly()
    shown = ResolvedAvatar(AvatarRef("avatar", SourceVideo("presenter.mp4", INFO)))
    cost = asyncio.run(measure_cost(renderer, "s", shown, LiveConfig(chunk_seconds=0.08, max_chunk_seconds=0.16)))
    assert cost == pytest.approx((0.02 / 0.16 + 0.04 / 0.08) / 2)
    assert [request.num_frames for request in renderer.requests] == [4, 2] * 4
    assert [request.first_frame for request in renderer.requests] == [0, 4, 6, 10, 12, 16, 18, 22]
    assert [request.window.is_silent for request in renderer.requests] == [True, False] * 4
    states = [request.state for request in renderer.requests]
    assert states == [None, *(request.first_frame for request in renderer.requests[:-1])]
