"""Measures what a live session of an avatar costs on this machine."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from config import LiveConfig
from jobs.messages import ResolvedAvatar
from media.audio import SPEECH_SAMPLE_RATE
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechStream
from rendering.live_chunk import LiveChunk, LiveChunkRequest

_NUM_CHUNKS: Final = 6  # half of them silent
_PITCH_HZ, _SYLLABLES_HZ, _LEVEL = 120, 4, 6000.0


class ChunkRenderer(Protocol):
    """The measured renderer: `rendering.live_renderer.LiveRenderer`."""

    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        """Render one chunk."""
        ...


async def measure_cost(renderer: ChunkRenderer, session_id: str, shown: ResolvedAvatar, live: LiveConfig) -> float:
    """Return the seconds of the replica (`LiveChunk.busy_s`) that one second of stream takes; half of it is spoken.

    Spoken chunks have the length of those of a microphone, `live.chunk_seconds`, and silent ones that of a pause,
    `live.max_chunk_seconds`. The first one of each kind, which loads the avatar and starts its decoder, does not count.
    """
    fps = shown.avatar.source.info.fps
    lengths = [max(1, round(seconds * fps)) for seconds in (live.max_chunk_seconds, live.chunk_seconds)]
    silent, spoken = SpeechStream(), SpeechStream()
    seconds = float((_NUM_CHUNKS // 2 + 1) * sum(lengths) / fps) + LOOK_AHEAD_SECONDS
    times = np.arange(round(seconds * SPEECH_SAMPLE_RATE)) / SPEECH_SAMPLE_RATE
    loudness = np.sin(np.pi * _SYLLABLES_HZ * times) ** 2
    spoken.push((_LEVEL * loudness * (2 * (_PITCH_HZ * times % 1) - 1)).astype(np.int16))  # a voice: a saw tooth
    state: object = None
    reference: str | None = None
    first, share = 0, 0.0
    for number in range(_NUM_CHUNKS + 2):
        stream, num = (silent, spoken)[number % 2], lengths[number % 2]
        window = stream.window(float(first / fps), float((first + num) / fps))
        request = LiveChunkRequest(
            session_id,
            shown.avatar,
            window,
            first,
            num,
            state,
            shown.expressiveness,
            shown.motion,
            shown.background,
            reference,
        )
        chunk = await renderer.render(request)
        state, reference = chunk.state, None if number % 2 else chunk.reference  # silent ones begin with a keyframe
        share += chunk.busy_s * float(fps / num) / _NUM_CHUNKS * (number >= 2)
        first += num
    return share
