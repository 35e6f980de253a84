"""Queue of texts that a live session speaks one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.api.live.protocol import SpeakText
from lipwright.api.live.spoken_actions import SpokenActions
from lipwright.api.live.tasks import cancel_all
from lipwright.api.live.wav_stream import WavStream
from lipwright.errors import LipwrightError, OptionError
from lipwright.media.phones import Closures, closures_between
from lipwright.media.subtitles.actions import ActedText
from lipwright.telemetry.tracing import span

MAX_TEXTS: Final = 8
_PIECE_SECONDS: Final = 1.0

Synthesize = Callable[[str, str | None], AsyncGenerator[bytes]]
"""Yields the chunks of a WAV file with a text, spoken by the named voice or the default one."""
Push = Callable[[NDArray[np.int16], int, Closures], Awaitable[None]]
"""Receives samples, their rate, and closures of the lips in seconds from the first sample.

Waits while the buffer is full.
"""

PlaceActions = Callable[[SpeakText, ActedText], Callable[[list[float]], None]]
"""Called when the speech of a text begins; what it returns is called with the times of its actions, again and again."""


class TtsQueue:
    """Synthesizes texts in order.

    Args:
        synthesize: Text-to-speech for the caller. It must not wait until its chunks are taken: playing a text must not
            hold the slot in which it is spoken.
        push: Receives the audio.
        on_end: Called when the queue is empty.
        on_error: Called when a text cannot be spoken.
        place_actions: Called for texts with actions.

    Attributes:
        event_id: ID that the client gave to the text whose audio is pushed.
    """

    def __init__(
        self,
        synthesize: Synthesize,
        push: Push,
        on_end: Callable[[], None],
        on_error: Callable[[SpeakText, LipwrightError], Awaitable[None]],
        place_actions: PlaceActions = lambda message, text: lambda seconds: None,
    ) -> None:
        self._synthesize, self._push, self._on_end, self._on_error = synthesize, push, on_end, on_error
        self._place_actions = place_actions
        self._texts: deque[tuple[SpeakText, ActedText]] = deque()
        self.event_id: str | None = None
        self._task: asyncio.Task[None] | None = None

    def add(self, message: SpeakText, text: ActedText | None = None) -> None:
        """Add a text, by default that of the message.

        Raises:
            OptionError: The queue is full.
        """
        if len(self._texts) >= MAX_TEXTS:
            raise OptionError(f"text: the queue is full ({MAX_TEXTS} texts).")
        self._texts.append((message, text or ActedText(message.text)))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._speak_all())

    async def stop(self) -> None:
        """Clear the queue."""
        self._texts.clear()
        if self._task is not None:
            await cancel_all([self._task])

    async def _speak_all(self) -> None:
        while self._texts:
            message, text = self._texts.popleft()
            self.event_id = message.event_id
            try:
                with span("text", characters=len(text.text)):
                    await self._speak(message, text)
            except LipwrightError as error:
                await self._on_error(message, error)
        self._on_end()

    async def _speak(self, message: SpeakText, text: ActedText) -> None:
        wav, num_pushed = WavStream(), 0
        place, actions = self._place_actions(message, text), SpokenActions(text) if text.actions else None
        async with aclosing(self._synthesize(text.text, message.voice)) as pieces:
            async for piece in pieces:
                samples = wav.push(piece)
                if actions is not None and len(samples):
                    actions.push(samples, wav.sample_rate)
                size = round(_PIECE_SECONDS * wav.sample_rate) or 1
                for start in range(0, len(samples), size):
                    sound, seconds = samples[start : start + size], num_pushed / wav.sample_rate
                    num_pushed += len(sound)
                    closures = closures_between(wav.closures, seconds, num_pushed / wav.sample_rate)
                    await self._push(sound, wav.sample_rate, closures)
                    if actions is not None and actions.is_due:
                        place(actions.seconds(is_whole=False))
        if actions is not None:
            place(actions.seconds(is_whole=True))
