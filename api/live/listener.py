"""What a client says in a session, and what is done with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from api.live.budget import Budget, SessionEndError
from api.live.messages import Incoming, Interrupt, Playback, Speak, SpeakEnd, SpeakText, event, pcm, read_message
from api.live.reader_aloud import ReaderAloud
from api.live.session_clock import SessionClock
from api.live.speech_line import SpeechLine
from api.speech.voice import Speaker
from config import LiveConfig
from errors import CapacityError, LipwrightError, OptionError

_LOOK_S: Final = 0.05


class Line(Protocol):
    """Where messages go and come from: a WebSocket."""

    async def send_text(self, data: str) -> None:
        """Send one text message."""

    async def send_bytes(self, data: bytes) -> None:
        """Send one binary message."""


class Listener:
    """Puts speech on its line, and tells the clock what concerns it.

    Args:
        speech: Where what is said goes.
        clock: Of the session.
        line: To the client.
        speaker: The service's voice, for texts.
        live: The service's bounds.

    Attributes:
        event_id: What the client called its last message that had a name.
    """

    def __init__(self, speech: SpeechLine, clock: SessionClock, line: Line, speaker: Speaker, live: LiveConfig) -> None:
        self._speech, self._clock, self._line = speech, clock, line
        self._reader = ReaderAloud(speaker, self._push_read, speech.end, self._not_read)
        self._budget = Budget(live)
        self.event_id: str | None = None

    async def take_text(self, text: str) -> None:
        """Do what one text message says.

        Raises:
            SessionEndError: The client passed a bound.
        """
        self._budget.count(len(text))
        await self._tried(lambda: self._do(read_message(text)))

    async def take_bytes(self, data: bytes) -> None:
        """Take sound as it is.

        Raises:
            SessionEndError: The client passed a bound.
        """
        self._budget.count(len(data))
        await self._tried(lambda: self._speak(lambda: pcm(data)))

    async def close(self) -> None:
        """Read nothing aloud any more."""
        await self._reader.stop()

    async def _tried(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, or say what was wrong with it; too much wrong ends the session."""
        try:
            await work()
        except CapacityError as error:
            raise SessionEndError(str(error), 1008) from error
        except OptionError as error:
            self._budget.mistake()
            await self._line.send_text(event("error", code=error.code, message=str(error)))

    async def _do(self, message: Incoming) -> None:
        self.event_id = message.event_id or self.event_id
        if isinstance(message, Playback):
            self._clock.showed(message.position_seconds)
            return
        self._clock.spoke()
        if isinstance(message, Speak):
            await self._speak(message.samples)
        elif isinstance(message, SpeakText):
            self._reader.add(message)
        elif isinstance(message, SpeakEnd):
            self._speech.end()
        elif isinstance(message, Interrupt):
            await self._interrupt()

    async def _interrupt(self) -> None:
        await self._reader.stop()
        if self._speech.interrupt():
            at = self._speech.left_seconds
            self._clock.interrupted()
            await self._line.send_text(event("agent.speak_interrupted", event_id=self.event_id, at_seconds=at))

    async def _speak(self, read: Callable[[], NDArray[np.int16]]) -> None:
        samples = read()
        self._clock.spoke()
        if len(samples):
            self._speech.push(samples)

    async def _push_read(self, samples: NDArray[np.int16], sample_rate: int) -> None:
        while True:
            if self._speech.has_room(len(samples) / sample_rate):
                break
            await asyncio.sleep(_LOOK_S)
        self._clock.spoke()
        self._speech.push(samples, sample_rate)

    async def _not_read(self, message: SpeakText, error: LipwrightError) -> None:
        await self._line.send_text(event("error", code=error.code, message=str(error), event_id=message.event_id))
